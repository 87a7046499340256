/** The configuration of pod sandboxes: a section of the schema. */
import * as z from 'zod'
import { podSysctls } from '../oci/spec/sysctls.ts'
import { absolutePath, section } from './fields.ts'

const areSysctls = (sysctls: Record<string, string>): boolean => {
  try {
    podSysctls(sysctls, { hostNetwork: false, hostIpc: false })
    return true
  } catch {
    return false
  }
}

export const sandbox = section({
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
}).describe('Pod sandboxes.')
