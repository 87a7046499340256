/**
 * What a CreateContainer request must be before anything is made for it. Refuses contradictions and whatever this version
 * cannot do; values that depend on the host or the image are refused by the spec parts.
 */
import {
  type ContainerConfig,
  type LinuxContainerSecurityContext,
  type Mount,
  NamespaceMode,
  SupplementalGroupsPolicy,
} from '#proto/generated/api.ts'
import { cdiDeviceNames } from '../cdi/device-names.ts'
import { apparmor } from './apparmor.ts'
import { ALL_CAPABILITIES, capabilities } from './capabilities.ts'
import { checkAccess } from './devices.ts'
import { absolutePath, hasControlCharacters, invalid, quoted } from './refuse.ts'
import { localhostSeccompPath } from './seccomp.ts'
import { stopSignal } from './stop-signal.ts'
import { userMappings } from './user-namespace.ts'

/** @throws RuntimeError invalid-argument, or unimplemented for what is not offered yet, naming the field */
export const validateContainerConfig = (config: ContainerConfig): void => {
  checkLine('metadata.name', config.metadata?.name ?? '', MAX_NAME)
  checkLine('image.image', config.image?.image ?? '', MAX_REFERENCE)
  checkOptionalLine('image.user_specified_image', config.image?.userSpecifiedImage ?? '', MAX_REFERENCE)
  checkLogPath(config.logPath)
  if (config.windows) throw invalid('windows is set, but this is a runtime for Linux')
  cdiDeviceNames(config)
  for (const [index, mount] of config.mounts.entries()) checkMount(`mounts[${index}]`, mount)
  for (const [index, device] of config.devices.entries()) {
    absolutePath(`devices[${index}].host_path`, device.hostPath)
    if (device.containerPath !== '') absolutePath(`devices[${index}].container_path`, device.containerPath)
    checkAccess(`devices[${index}].permissions`, device.permissions)
  }
  if (config.workingDir !== '') absolutePath('working_dir', config.workingDir)
  stopSignal(config.stopSignal, '')
  if (config.linux?.securityContext) checkSecurity(config.linux.securityContext)
}

const MAX_NAME = 253
const MAX_REFERENCE = 4096
const MAX_LOG_PATH = 4096

const checkLine = (field: string, value: string, max: number): void => {
  if (value === '') throw invalid(`${field} is empty`)
  checkOptionalLine(field, value, max)
}

const checkOptionalLine = (field: string, value: string, max: number): void => {
  if (hasControlCharacters(value)) throw invalid(`${field} ${quoted(value)} holds control characters`)
  if (value.length > max) throw invalid(`${field} is longer than ${max} characters`)
}

/** Relative to the log directory of the sandbox, and never out of it. Empty: the output is not logged. */
const checkLogPath = (path: string): void => {
  if (path === '') return
  checkOptionalLine('log_path', path, MAX_LOG_PATH)
  if (path.startsWith('/') || path.endsWith('/')) throw invalid(`log_path ${quoted(path)} is not a relative file path`)
  if (path.split('/').some((part) => part === '..' || part === '.')) {
    throw invalid(`log_path ${quoted(path)} has "." or ".." in it`)
  }
}

const checkMount = (field: string, mount: Mount): void => {
  absolutePath(`${field}.container_path`, mount.containerPath)
  if (!mount.image) absolutePath(`${field}.host_path`, mount.hostPath)
}

const checkSecurity = (security: LinuxContainerSecurityContext): void => {
  const options = security.namespaceOptions
  for (const kind of ['network', 'pid', 'ipc'] as const) {
    const mode = options?.[kind] ?? NamespaceMode.POD
    const known = mode === NamespaceMode.POD || mode === NamespaceMode.CONTAINER || mode === NamespaceMode.NODE
    const isTarget = kind === 'pid' && mode === NamespaceMode.TARGET
    if (!known && !isTarget) throw invalid(`namespace_options.${kind} ${mode} is unknown`)
    if (isTarget && options?.targetId === '') throw invalid('namespace_options.pid is TARGET without a target_id')
  }
  userMappings(options?.usernsOptions)
  const policy = security.supplementalGroupsPolicy
  if (policy !== SupplementalGroupsPolicy.Merge && policy !== SupplementalGroupsPolicy.Strict) {
    throw invalid(`supplemental_groups_policy ${policy} is unknown`)
  }
  checkNames(security)
}

/** The words of the request, judged without the host: a host that has everything stands in for it. */
const checkNames = (security: LinuxContainerSecurityContext): void => {
  checkOptionalLine('run_as_username', security.runAsUsername, MAX_NAME)
  capabilities({ privileged: false, requested: security.capabilities, host: ALL_CAPABILITIES })
  apparmor({ ...security, privileged: false }, { apparmorEnabled: true, apparmorDefaultProfile: 'any' })
  localhostSeccompPath({ ...security, privileged: false })
}
