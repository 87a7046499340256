/** The keys of checkpoint and restore. docs/checkpoint.md tells what they open. */
import { basename } from 'node:path'
import * as z from 'zod'
import { absolutePath, section } from './fields.ts'

export const checkpoint = section({
  mode: z
    .enum(['off', 'checkpoint', 'restore'])
    .default('off')
    .describe(
      'With `checkpoint`, running containers can be written to archives (CheckpointContainer). With `restore`, containers can be made from such archives as well (CreateContainer).',
    ),
  criu: absolutePath()
    .refine((path) => basename(path) === 'criu', { error: 'must be the path of a program named "criu"' })
    .default('/usr/sbin/criu')
    .describe('The program with which the OCI runtimes do it.'),
  timeoutSeconds: z
    .int()
    .min(1)
    .max(86_400)
    .default(120)
    .describe('How long a checkpoint may take when the caller does not say it.'),
  maxMiB: z
    .int()
    .min(1)
    .max(67_108_864)
    .default(65_536)
    .describe('The largest archive that is written or read, in MiB, and the largest file in one.'),
  archiveDirs: z
    .array(absolutePath())
    .default(['/var/lib/kubelet/checkpoints'])
    .describe(
      'Where archives lie that may be restored. Whoever can write there can do anything on this node: only root may.',
    ),
  imageRepositories: z
    .array(
      z.string().regex(/^[a-z0-9.-]+(:\d+)?(\/[a-z0-9._-]+)+$/, { error: 'must be a repository with its registry' }),
    )
    .default([])
    .describe(
      'Repositories, such as registry.example/checkpoints, whose images (and those of repositories below) are restored when they are checkpoints. Whoever can push there can do anything on this node.',
    ),
}).describe('Checkpoint and restore of containers.')
