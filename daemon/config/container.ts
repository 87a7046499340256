/** The configuration of containers: a section of the schema. What only some nodes use is in `node-features.ts`. */
import * as z from 'zod'
import { parseConfiguredMount } from '../oci/spec/configured-mounts.ts'
import { parseConfiguredDevice } from '../oci/spec/devices.ts'
import { parseRlimit } from '../oci/spec/rlimits.ts'
import { absolutePath, section } from './fields.ts'
import { containerFeatures } from './node-features.ts'

const fits = (parse: (text: string) => unknown, form: string) =>
  z.string().refine((text) => parse(text) !== undefined, { error: `must be written ${form}` })

export const container = section({
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
  requireSelinux: z
    .boolean()
    .default(false)
    .describe(
      'On a host without SELinux: whether a pod or container that asks for an SELinux label is refused. Otherwise the label means nothing there, as Kubernetes has it, and a warning is logged.',
    ),
  cdiSpecDirs: z
    .array(absolutePath())
    .default(['/etc/cdi', '/var/run/cdi'])
    .describe('Where descriptions of CDI devices lie. A later directory wins; changes are noticed.'),
  ...containerFeatures,
}).describe('Containers.')
