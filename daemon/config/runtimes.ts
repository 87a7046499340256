/** The configuration of OCI runtimes: a section of the schema, and what each handler comes to. */
import * as z from 'zod'
import { absolutePath, directory, section } from './fields.ts'
import { handlerFeatures } from './node-features.ts'

/** Where a handler's program is looked for when its `path` is not configured, in this order. */
export const PROGRAM_DIRS = ['/usr/sbin', '/usr/bin', '/usr/local/sbin', '/usr/local/bin'] as const

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

export const runtimes = section({
  default: handlerName()
    .default('runc')
    .describe('The handler of pods that do not name one (no RuntimeClass). Must be one of `runtimes.handlers`.'),
  handlers: z
    .preprocess((value) => value ?? {}, z.record(handlerName(), handler))
    .describe(
      'The OCI runtimes, by the handler name that a RuntimeClass uses. `runc` is there without being listed as long as it is the default handler.',
    ),
}).describe('OCI runtimes.')

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
