/** The configuration of the pod network: a section of the schema. */
import * as z from 'zod'
import { absolutePath, section } from './fields.ts'

export const network = section({
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
}).describe('The pod network.')
