#!/bin/sh
# Builds the native addon into dist/lib/sys.node. Needs a C compiler and the headers of the npm package node-api-headers.
set -eu
cd "$(dirname "$0")/../../.."
mkdir -p dist/lib
${CC:-gcc} -O2 -Wall -Wextra -Wno-missing-field-initializers -shared -fPIC -fvisibility=hidden \
  -I node_modules/node-api-headers/include -o dist/lib/sys.node.new storage/linux/native/sys.c storage/linux/native/numbers.c
# A process may have the old file mapped: replace it, never write into it.
mv dist/lib/sys.node.new dist/lib/sys.node
