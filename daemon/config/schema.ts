/**
 * The whole configuration: every key, its type, its default and what it means. Error messages, `cricket config` and
 * docs/configuration.md are all made from this schema; nothing else declares a key.
 */
import * as z from 'zod'
import { parseConfiguredMount } from '../oci/spec/configured-mounts.ts'
import { parseConfiguredDevice } from '../oci/spec/devices.ts'
import { parseRlimit } from '../oci/spec/rlimits.ts'
import { podSysctls } from '../oci/spec/sysctls.ts'
import { absolutePath, isAbsolutePath, section, tidyPath } from './fields.ts'
import { containerFeatures, cpuIsolation, handlerFeatures, workloads } from './node-features.ts'
import { streaming } from './streaming.ts'

/** Where a handler's program is looked for when its `path` is not configured, in this order. */
export const PROGRAM_DIRS = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin'] as const

/** The longest path that fits into the kernel's `sockaddr_un`, its closing NUL not counted. */
const MAX_SOCKET_PATH_BYTES = 107

const directory = () => absolutePath().refine((path) => path !== '/', { error: 'must not be the root directory' })

const socketPath = () =>
  z
    .string()
    .overwrite((address) => tidyPath(address.replace(/^unix:\/\//, '')))
    .refine(isAbsolutePath, { error: 'must be the absolute path of a unix socket, with or without "unix://"' })
    .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES, {
      error: `must not be longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
    })

const registryHost = () =>
  z.string().regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d+)?$/, {
    error: 'must be a host or host:port, without scheme and path',
  })

const proxyAddress = () =>
  z.string().regex(/^https?:\/\/[^\s/@]+\/?$/, {
    error: 'must be "http://host:port"; a user and password can only be given by environment variables',
  })

const handlerName = () =>
  z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/, {
    error: 'must consist of letters, digits, ".", "_" and "-"',
  })

const handler = section({
  path: absolutePath()
    .optional()
    .describe(
      `The OCI runtime program of this handler. Not set: the program with the handler's name in ${PROGRAM_DIRS.join(', ')}.`,
    ),
  root: directory()
    .optional()
    .describe("The directory in which the runtime keeps its own state. Not set: the handler's name under `state`."),
  seccompProfile: absolutePath()
    .optional()
    .describe('A file that replaces the built-in seccomp profile (RuntimeDefault) for the pods of this handler.'),
  privilegedWithoutHostDevices: z
    .boolean()
    .optional()
    .describe(
      'Whether privileged containers of this handler get the standard devices only, and not those of the host.',
    ),
  ...handlerFeatures,
  createTimeoutSeconds: z
    .int()
    .min(1)
    .max(3600)
    .optional()
    .describe(
      'How long the runtime may take to create a container, or the init of a pod, before it is killed. Not set: 240.',
    ),
})

const fits = (parse: (text: string) => unknown, form: string) =>
  z.string().refine((text) => parse(text) !== undefined, { error: `must be written ${form}` })

const container = section({
  pidsLimit: z.int().min(1).optional().describe('The most processes and threads of a container. Not set: no limit.'),
  rlimits: z
    .array(fits(parseRlimit, '"<name>=<soft>[:<hard>]", with numbers or "unlimited"'))
    .default(['nofile=1048576'])
    .describe(
      'Resource limits of processes, such as "nofile=1024:524288" or "memlock=unlimited"; the rest is inherited.',
    ),
  env: z
    .array(z.string().regex(/^[^=\0]+=[^\0]*$/, { error: 'must be written "<name>=<value>"' }))
    .default([])
    .describe('Environment variables of every container that neither image nor pod sets.'),
  timezone: z
    .string()
    .regex(/^(local|[A-Za-z0-9_+-]+(\/[A-Za-z0-9_+-]+){0,2})$/, {
      error: 'must be "local" or a name such as "Europe/Berlin"',
    })
    .optional()
    .describe(
      'The time zone of every container, by a mount on /etc/localtime; "local" is the node\'s. Not set: the image\'s.',
    ),
  mounts: z
    .array(fits(parseConfiguredMount, '"/host/path:/container/path" or "/host/path:/container/path:ro"'))
    .default([])
    .describe(
      'Bind mounts of every container. A mount of the pod at the same place wins; a missing source is left out.',
    ),
  devices: z
    .array(fits(parseConfiguredDevice, '"/dev/name", "/dev/name:/dev/other" or "/dev/name:/dev/other:rwm"'))
    .default([])
    .describe('Devices of every container.'),
  deviceOwnershipFromSecurityContext: z
    .boolean()
    .default(false)
    .describe(
      "Whether devices belong to the container's user and group, so that it needs no other permission to use them.",
    ),
  imageVolumes: z
    .enum(['mkdir', 'bind', 'ignore'])
    .default('mkdir')
    .describe(
      'What becomes of volumes that an image declares: a directory of the root file system, an empty directory of its own on the disk, or nothing.',
    ),
  privilegedSeccompProfile: absolutePath()
    .optional()
    .describe('A seccomp profile for privileged containers, which otherwise have none.'),
  rejectMissingSources: z
    .array(absolutePath())
    .default([])
    .describe('Sources of mounts that are not made when they are missing: the container is refused.'),
  trustVolumeLabels: z
    .boolean()
    .default(false)
    .describe(
      'On a host with SELinux: whether a volume whose top directory has the label of the container is taken to have it throughout, and is not walked again. Cricket labels the top last.',
    ),
  cdiSpecDirs: z
    .array(absolutePath())
    .default(['/etc/cdi', '/var/run/cdi'])
    .describe('Where descriptions of CDI devices lie. A later directory wins; changes are noticed.'),
  ...containerFeatures,
}).describe('Containers.')

const areSysctls = (sysctls: Record<string, string>): boolean => {
  try {
    podSysctls(sysctls, { hostNetwork: false, hostIpc: false })
    return true
  } catch {
    return false
  }
}

/** What a configuration file may hold. Every key may be absent, so each file is valid, or not, on its own. */
export const ConfigFile = z.strictObject({
  root: directory()
    .default('/var/lib/cricket')
    .describe(
      'What survives a reboot: images, layers, records. Must be on a file system that can carry overlay layers.',
    ),
  state: directory()
    .default('/run/cricket')
    .describe('What a reboot ends: sockets, bundles, pinned namespaces, live status. Should be on a tmpfs.'),
  listen: socketPath()
    .optional()
    .describe(
      'The unix socket that the kubelet and crictl connect to; "unix://" in front is accepted. Not set: `cricket.sock` under `state`, which is /run/cricket/cricket.sock by default.',
    ),
  logLevel: z
    .enum(['debug', 'info', 'warn', 'error'])
    .default('info')
    .describe('The least important messages that are logged.'),
  cgroupDriver: z
    .enum(['cgroupfs', 'systemd'])
    .default('cgroupfs')
    .describe('Who makes control groups: cricket itself, or systemd. The kubelet asks for this and follows.'),
  runtimes: section({
    default: handlerName()
      .default('runc')
      .describe('The handler of pods that do not name one (no RuntimeClass). Must be one of `runtimes.handlers`.'),
    handlers: z
      .preprocess((value) => value ?? {}, z.record(handlerName(), handler))
      .describe(
        'The OCI runtimes, by the handler name that a RuntimeClass uses. `runc` is there without being listed as long as it is the default handler.',
      ),
  }).describe('OCI runtimes.'),
  network: section({
    configDir: absolutePath()
      .default('/etc/cni/net.d')
      .describe(
        'The directory of CNI network configurations. The first usable *.conflist, *.conf or *.json file by name is the pod network; changes are noticed.',
      ),
    binDirs: z
      .array(absolutePath())
      .min(1, { error: 'must name at least one directory' })
      .default(['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'])
      .describe('Where CNI plugins are looked for, in this order.'),
    waitSeconds: z
      .int()
      .min(0)
      .max(200)
      .default(10)
      .describe(
        'How long a new pod waits for a network that is not ready, which its installer may be about to change, before it is refused.',
      ),
    confTemplate: absolutePath()
      .optional()
      .describe(
        'A CNI configuration in JSON from which `99-cricket.conflist` in `configDir` is made when the kubelet tells the pod address ranges of the node. These strings in it are replaced: "$POD_CIDR" by the first range, "$POD_CIDR_V4" and "$POD_CIDR_V6" by the first of that family, "$POD_CIDR_RANGES" by `ranges` and "$POD_ROUTES" by `routes` for the host-local plugin. Not set: nothing is written.',
      ),
  }).describe('The pod network.'),
  image: section({
    insecureRegistries: z
      .array(registryHost())
      .default([])
      .describe(
        'Registries, as host or host:port, that may be spoken to without TLS or with a certificate nobody vouches for. TLS is tried first, except on loopback.',
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
    preload: z
      .array(absolutePath())
      .default([])
      .describe(
        'OCI image layout directories that are imported at start. Their images are pinned: never garbage collected.',
      ),
  }).describe('Images.'),
  monitor: section({
    runtime: z
      .enum(['native', 'node'])
      .default('native')
      .describe(
        'How the monitor of each container runs: the compiled program, or the same program under Node, which needs more memory.',
      ),
    path: absolutePath().optional().describe('The monitor program. Not set: `conmon` beside the cricket program.'),
    cgroup: directory()
      .optional()
      .describe(
        'The cgroup in which the monitors are born, in every hierarchy, for instance `/cricket-monitors`; made when missing. Not set: the one of the cricket service, which a restart of the service leaves alone (`KillMode=process`).',
      ),
    spares: z
      .int()
      .min(0)
      .max(16)
      .default(1)
      .describe(
        'How many monitors wait, already started, for the next container: each makes one creation faster and takes about 3.5 MB.',
      ),
    journal: z
      .boolean()
      .default(false)
      .describe(
        "Send each line of the containers' output to the systemd journal as well. What the journal does not take at once is missing there, and counted.",
      ),
  }).describe('The process that watches a container.'),
  sandbox: section({
    initPath: absolutePath()
      .default('/usr/bin/catatonit')
      .describe(
        'The static init that runs in pods which share their process namespace between containers. Other pods run no process of their own.',
      ),
    shmMiB: z
      .int()
      .min(1)
      .max(8_388_608)
      .default(64)
      .describe('The size of /dev/shm of a pod, in MiB. It counts as memory of who writes into it.'),
    sysctls: z
      .record(z.string(), z.string())
      .refine(areSysctls, { error: 'must be kernel parameters of the network or IPC namespace of a pod' })
      .default({})
      .describe(
        'Kernel parameters of every pod that has the namespace they belong to, such as "net.ipv4.tcp_keepalive_time"; those of the pod itself win.',
      ),
  }).describe('Pod sandboxes.'),
  container,
  workloads,
  cpuIsolation,
  streaming,
})

export type ConfigFile = z.infer<typeof ConfigFile>

/** One OCI runtime, everything decided. */
export interface RuntimeHandlerConfig {
  readonly path: string
  readonly root: string
  readonly seccompProfile?: string | undefined
  readonly privilegedWithoutHostDevices?: boolean | undefined
  readonly allowedAnnotations?: readonly string[] | undefined
  readonly execCpuAffinity?: 'first' | 'last' | undefined
  readonly createTimeoutSeconds?: number | undefined
}

/** The configuration in effect: defaults, files and flags put together, nothing left open. */
export interface Config extends Omit<ConfigFile, 'listen' | 'runtimes'> {
  listen: string
  runtimes: { default: string; handlers: Record<string, RuntimeHandlerConfig> }
}

export type LogLevel = Config['logLevel']
