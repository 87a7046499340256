/** The configuration of images: registries, credentials, proxies. A section of the schema. */
import * as z from 'zod'
import { absolutePath, section } from './fields.ts'
import { imageTrust } from './image-trust.ts'

const registryHost = () =>
  z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d+)?$/, {
    error: 'must be a host or host:port, without scheme and path',
  })

const proxyAddress = () =>
  z.string().regex(/^https?:\/\/[^\s/@]+\/?$/, {
    error: 'must be "http://host:port"; a user and password can only be given by environment variables',
  })

export const image = section({
  insecureRegistries: z
    .array(registryHost())
    .default([])
    .describe(
      'Registries, as host or host:port, that may be spoken to without TLS or with a certificate nobody vouches for. TLS is tried first, except on loopback.',
    ),
  tokenServices: z
    .array(registryHost())
    .optional()
    .describe(
      'Where registries may have us get tokens, which is where user and password go, beside their own host: `auth.docker.io`. Not set: at any public address by TLS, told in the log, and beside a registry in a private network also in that.',
    ),
  registriesConf: absolutePath()
    .default('/etc/containers/registries.conf')
    .describe(
      'Mirrors, rewriting, blocking and short names in the format of containers-registries.conf, version 2; drop-ins lie in `<file>.d/*.conf`. May be absent; changes are noticed. See images.md.',
    ),
  certsDirs: z
    .array(absolutePath())
    .default(['/etc/cricket/certs.d', '/etc/containerd/certs.d', '/etc/containers/certs.d', '/etc/docker/certs.d'])
    .describe(
      "Directories with a directory per registry, which holds containerd's `hosts.toml`, or `*.crt`, `*.cert` and `*.key` as for Docker. Earlier ones come first; read for each pull. See images.md.",
    ),
  authFiles: z
    .array(absolutePath())
    .default(['/etc/cricket/auth.json'])
    .describe(
      "Credentials of the node in the format of Docker's config.json or containers-auth.json, for images that come without a pull secret. Absent ones are passed over; read for each pull.",
    ),
  namespaceAuthDir: absolutePath()
    .optional()
    .describe(
      'A directory of such files per Kubernetes namespace: `<namespace>-<sha256 of the image name>.json`, then `<namespace>.json`. They come before `authFiles`. Not set: none.',
    ),
  shareCredentials: z
    .preprocess((value) => value ?? {}, z.record(registryHost(), z.array(registryHost())))
    .describe(
      'Registry and the mirrors that are shown the credentials which a pod has for it, such as `docker.io: [mirror.example:5000]`. A mirror that is not listed here gets only what is stored under its own name.',
    ),
  credentialHelperDirs: z
    .array(absolutePath())
    .default(['/usr/local/bin', '/usr/bin', '/usr/local/sbin', '/usr/sbin'])
    .describe('Where programs named `docker-credential-…` are looked for.'),
  httpProxy: proxyAddress().optional().describe('The proxy for http:// registries. Not set: HTTP_PROXY.'),
  httpsProxy: proxyAddress().optional().describe('The proxy for https:// registries. Not set: HTTPS_PROXY.'),
  noProxy: z
    .string()
    .optional()
    .describe(
      'Hosts, domains, addresses and address ranges that no proxy is used for, with commas between. Not set: NO_PROXY.',
    ),
  additionalStores: z
    .array(absolutePath())
    .default([])
    .describe(
      'Directories like `root`, of other daemons or delivered with the node, whose images are used without copying them. They are only read, and may come and go while the daemon runs. See storage.md.',
    ),
  layerConnections: z
    .int()
    .min(1)
    .max(16)
    .default(4)
    .describe(
      'Over how many connections at once a big layer is fetched, for registries that give each connection little. 1: one after the other.',
    ),
  severalConnectionsFromMiB: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(64)
    .describe('How big a layer must be for that, in MiB as it comes.'),
  preload: z
    .array(absolutePath())
    .default([])
    .describe(
      'OCI image layout directories that are imported at start. Their images are pinned: never garbage collected.',
    ),
  ...imageTrust,
}).describe('Images.')
