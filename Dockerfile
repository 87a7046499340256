# Stages: deps (compilers and npm packages), build (dist/), test (everything the gate needs), runtime (what a node needs).
#
#   docker build --target runtime -t cricket .
#   docker run --rm --privileged --cgroupns=host $(docker build -q --target test .)     the gate
#
# The same scripts do the work here as on any other machine: .ci/setup and .ci/build.ts.

FROM debian:bookworm-slim AS base
ENV DEBIAN_FRONTEND=noninteractive

FROM base AS deps
WORKDIR /src
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates nodejs npm gcc g++ libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY .ci/setup .ci/setup
COPY package.json package-lock.json .npmrc ./
RUN .ci/setup build

FROM deps AS build
COPY . .
RUN npm run build

FROM build AS test
RUN .ci/setup test && rm -rf /var/lib/apt/lists/*
# Overlay does not stack on the image's own overlay: tests need a volume for their layers.
VOLUME /tmp
CMD ["npm", "test"]

FROM base AS runtime
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libatomic1 runc containernetworking-plugins iptables nftables conntrack catatonit \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/dist /usr/libexec/cricket
RUN ln -s /usr/libexec/cricket/bin/cricket /usr/bin/cricket
VOLUME /var/lib/cricket
ENTRYPOINT ["cricket"]
CMD ["serve"]
