/** The configuration of monitors: a section of the schema. */
import * as z from 'zod'
import { absolutePath, directory, section } from './fields.ts'

export const monitor = section({
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
}).describe('The process that watches a container.')
