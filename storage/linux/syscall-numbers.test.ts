import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readFileIfExistsSync } from './atomic-file.ts'
import { syscallNumbersOf } from './syscall-numbers.ts'

// arm64 uses the generic table, whose header names some calls by the width of their arguments.
const HEADERS = {
  x64: ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/include/asm/unistd_64.h'],
  arm64: ['/usr/include/asm-generic/unistd.h'],
} as const
const GENERIC_NAMES: Record<string, string> = { newfstatat: 'fstatat' }

for (const arch of ['x64', 'arm64'] as const) {
  test(`the numbers of ${arch} are those of the kernel's headers`, (t) => {
    const header = HEADERS[arch].map((path) => readFileIfExistsSync(path)).find((bytes) => bytes !== undefined)
    if (header === undefined) return t.skip(`host lacks the kernel headers of ${arch}`)
    const numbers = new Map(
      [...header.toString().matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm)].map(([, name, number]) => [
        name,
        Number(number),
      ]),
    )
    for (const [name, number] of Object.entries(syscallNumbersOf(arch))) {
      const expected = numbers.get(name) ?? numbers.get(GENERIC_NAMES[name] ?? name)
      assert.equal(number, expected, name)
    }
  })
}
