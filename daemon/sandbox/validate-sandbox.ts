/** What RunPodSandbox refuses before anything is made. */
import { RuntimeError } from '#proto/errors.ts'
import { NamespaceMode, type PodSandboxConfig } from '#proto/generated/api.ts'
import { podSysctls } from '../oci/spec/sysctls.ts'
import { podIdMap, podNamespaces } from './sandbox.ts'

/** The longest host name of Linux (HOST_NAME_MAX). */
const maxHostname = 64

/** @throws RuntimeError invalid-argument naming the field and its value */
export function validateSandboxConfig(config: PodSandboxConfig | undefined): PodSandboxConfig {
  if (!config) throw refused('config', undefined, 'is missing')
  const { metadata } = config
  if (!metadata?.name) throw refused('config.metadata.name', metadata?.name, 'must not be empty')
  if (!metadata.uid) throw refused('config.metadata.uid', metadata.uid, 'must not be empty')
  if (!metadata.namespace) throw refused('config.metadata.namespace', metadata.namespace, 'must not be empty')
  checkHostname(config.hostname)
  checkNamespaces(config)
  if (config.logDirectory !== '' && !config.logDirectory.startsWith('/')) {
    throw refused('config.log_directory', config.logDirectory, 'must be an absolute path')
  }
  podSysctls(config.linux?.sysctls ?? {}, podNamespaces(config))
  return config
}

function checkHostname(hostname: string): void {
  if (hostname.length > maxHostname)
    throw refused('config.hostname', hostname, `must not be longer than ${maxHostname} bytes`)
  if (!/^[A-Za-z0-9.-]*$/.test(hostname))
    throw refused('config.hostname', hostname, 'may hold letters, digits, "-" and "." only')
}

function checkNamespaces(config: PodSandboxConfig): void {
  const options = config.linux?.securityContext?.namespaceOptions
  const field = 'config.linux.security_context.namespace_options'
  for (const kind of ['network', 'ipc'] as const) {
    const mode = options?.[kind] ?? NamespaceMode.POD
    if (mode !== NamespaceMode.POD && mode !== NamespaceMode.NODE)
      throw refused(`${field}.${kind}`, mode, 'must be POD or NODE')
  }
  const pid = options?.pid ?? NamespaceMode.POD
  if (pid !== NamespaceMode.POD && pid !== NamespaceMode.CONTAINER && pid !== NamespaceMode.NODE) {
    throw refused(`${field}.pid`, pid, 'must be POD, CONTAINER or NODE')
  }
  if (podIdMap(config) && (pid === NamespaceMode.NODE || options?.ipc === NamespaceMode.NODE)) {
    throw refused(`${field}.userns_options.mode`, 'POD', 'goes with no PID or IPC namespace of the node')
  }
}

const refused = (field: string, value: unknown, why: string): RuntimeError =>
  new RuntimeError('invalid-argument', `${field} ${value === undefined ? '' : `${JSON.stringify(value)} `}${why}`)
