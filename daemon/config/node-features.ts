/** The keys of what some nodes do beyond the CRI. docs/node-features.md has each with an example. */
import * as z from 'zod'
import { parseCpuList } from '../oci/cpu-list.ts'
import { absolutePath, section, table } from './fields.ts'

const pattern = () =>
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*\*?$/, {
    error: 'must be the name of an annotation, or the beginning of names with "*" at its end',
  })

const annotationName = () =>
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, { error: 'must be the name of an annotation' })

const cpuList = () =>
  z.string().refine((text) => parseCpuList(text) !== undefined, { error: 'must be a list such as "0-1,4"' })

/** Of one runtime handler. */
export const handlerFeatures = {
  allowedAnnotations: z
    .array(pattern())
    .optional()
    .describe(
      'Annotations of pods that count for this handler: those of docs/node-features.md by any of their names, and others, which are passed on to the OCI runtime. "*" at the end stands for anything. Not set: none.',
    ),
  execCpuAffinity: z
    .enum(['first', 'last'])
    .optional()
    .describe("On which of a container's own processors (cpuset) further commands in it run. Not set: on any of them."),
}

/** Of all containers. */
export const containerFeatures = {
  minGomaxprocs: z
    .int()
    .min(0)
    .max(8192)
    .default(0)
    .describe(
      'With 1 or more: GOMAXPROCS is set for containers without CPU limit, to twice their CPU request, but to this at least. 0: it is not set.',
    ),
  systemd: z
    .enum(['off', 'detect'])
    .default('off')
    .describe(
      'With `detect`, containers that run systemd or /sbin/init get a writable cgroup of their own (cgroup version 2), temporary file systems and the stop signal SIGRTMIN+3.',
    ),
  hooksDirs: z
    .array(absolutePath())
    .default([])
    .describe(
      'Directories of OCI hooks (*.json, format 1.0.0). Of two files with one name that of the later directory counts; changes are noticed.',
    ),
  allowedDevices: z
    .array(absolutePath())
    .default(['/dev/fuse', '/dev/net/tun'])
    .describe('Devices that pods may ask for by annotation, where their handler allows it.'),
  rdtClasses: table(
    z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: 'must be the name of a class' }),
    section({
      l3CacheSchema: z
        .string()
        .regex(/^L3:\d+=[0-9a-f]+(;\d+=[0-9a-f]+)*$/, { error: 'must be written "L3:0=ff;1=ff"' })
        .optional()
        .describe('The share of the level 3 cache, as resctrl writes it. Not set: the class must be there already.'),
      memBwSchema: z
        .string()
        .regex(/^MB:\d+=\d+(;\d+=\d+)*$/, { error: 'must be written "MB:0=50;1=50"' })
        .optional()
        .describe('The share of the memory bandwidth, as resctrl writes it.'),
    }),
  ).describe('Classes of cache and memory bandwidth (resctrl) that pods may name by annotation, and no others.'),
  blockioConfig: absolutePath()
    .optional()
    .describe(
      'A YAML file with classes of block I/O that pods may name by annotation; read anew for each container. Not set: there are none.',
    ),
}

export const workloads = table(
  z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, { error: 'must consist of letters, digits, ".", "_" and "-"' }),
  section({
    activationAnnotation: annotationName().describe(
      'Pods that have this annotation, whatever its value, belong to the workload.',
    ),
    annotationPrefix: annotationName()
      .optional()
      .describe(
        'Annotations `<prefix>/<container>` hold resources of one container in JSON, such as {"cpushares": 10}. Not set: the resources below count for all.',
      ),
    allowedAnnotations: z
      .array(pattern())
      .default([])
      .describe('Annotations of these pods that count besides those that their handler allows.'),
    resources: section({
      cpushares: z.int().min(2).max(262_144).optional().describe('CPU shares.'),
      cpuquota: z.int().min(1000).optional().describe('CPU time per period, in microseconds.'),
      cpuperiod: z.int().min(1000).max(1_000_000).optional().describe('The period, in microseconds.'),
      cpulimit: z.int().min(1).optional().describe('CPU time in thousandths of a processor, instead of `cpuquota`.'),
      cpuset: cpuList().optional().describe('The processors, such as "0-1".'),
    }).describe('Of each container that does not say otherwise.'),
  }),
).describe('Kinds of pods whose resources are decided by this node, such as those that run it.')

export const cpuIsolation = section({
  irqbalanceConfig: absolutePath()
    .default('/etc/sysconfig/irqbalance')
    .describe(
      'The configuration of irqbalance, in which IRQBALANCE_BANNED_CPUS is kept in step. A missing file is left alone.',
    ),
}).describe('Containers with processors of their own, as far as annotations ask for more than that.')
