/** What a container's spec is made of: the request, the image, the host, and what was looked up there beforehand. */
import type { ContainerConfig, PodSandboxConfig } from '#proto/generated/api.ts'
import type { AllowedAnnotations } from '../annotations/allow.ts'
import type { EtcFiles } from './default-mounts.ts'
import type { HostDevice, MountSource, ResolvedDevice, SpecFeatures, SpecHost } from './host.ts'
import type { NamespaceRefs } from './namespaces.ts'
import type { NodeOptions } from './node-options.ts'
import type { ImageDefaults } from './process.ts'
import type { ProfileFile } from './seccomp.ts'
import type { OciMount, OciRlimit } from './types.ts'

export interface ContainerSpecInput {
  readonly id: string
  readonly sandboxId: string
  readonly container: ContainerConfig
  readonly sandbox: PodSandboxConfig
  readonly image: ImageDefaults
  /** What the user called the image. */
  readonly imageName: string
  readonly host: SpecHost
  readonly features: SpecFeatures
  /** Where the rootfs is mounted, and the texts of its account files where they exist. */
  readonly rootfs: { readonly path: string; readonly passwd?: string | undefined; readonly group?: string | undefined }
  readonly namespaces: NamespaceRefs
  /** What the pod calls itself. */
  readonly hostname: string
  readonly etcFiles: EtcFiles
  readonly cgroupsPath: string
  /** The requested devices and mount sources, looked up on the host; see `../resolve-devices.ts`, `../resolve-mounts.ts`. */
  readonly devices?: readonly ResolvedDevice[]
  readonly mountSources?: ReadonlyMap<number, MountSource>
  /** Every device of the host; needed for privileged containers. */
  readonly hostDevices?: readonly HostDevice[]
  /** The text of the file that `localhostSeccompPath` names. */
  readonly localhostSeccomp?: string
  readonly pidsLimit?: number | undefined
  /** What the configuration adds to every container. */
  readonly defaultEnv?: readonly string[]
  readonly rlimits?: readonly OciRlimit[]
  readonly ownMounts?: readonly OciMount[]
  /** Instead of ours, from the configuration. */
  readonly defaultSeccomp?: ProfileFile
  readonly privilegedSeccomp?: ProfileFile
  /** Whether device nodes belong to the container's user. */
  readonly deviceOwnership?: boolean
  /** Whether privileged containers get the devices of the host. */
  readonly privilegedDevices?: boolean
  /** Where the files of `BuiltContainer.accountFiles` will lie; without it none are made. */
  readonly accountFilePaths?: { readonly passwd: string; readonly group: string }
  /** The SELinux level that the containers of the pod share. */
  readonly selinuxLevel?: string
  /** What the pod asks for by annotations, as far as they are allowed. */
  readonly annotations?: AllowedAnnotations
  /** What the configuration of this node adds; see `node-options.ts`. */
  readonly node?: NodeOptions
}
