/** One file of an OCI hooks directory, format 1.0.0 as Podman and CRI-O read it: which program, when, and at which stages. */
import * as z from 'zod'
import { HOOK_STAGES, type OciHook } from '../spec/types.ts'

/** Hooks that do not say how long they may take. */
const DEFAULT_TIMEOUT_SECONDS = 120

const expression = z.string().transform((text, context) => {
  try {
    return new RegExp(text)
  } catch {
    context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is no regular expression` })
    return z.NEVER
  }
})

const when = z
  .strictObject({
    always: z.boolean().optional(),
    /** Expressions for name and value. */
    annotations: z.record(z.string(), expression).optional(),
    /** One of them has to fit the path of the program. */
    commands: z.array(expression).optional(),
    hasBindMounts: z.boolean().optional(),
  })
  .transform(({ annotations = {}, ...rest }, context) => ({
    ...rest,
    annotations: Object.entries(annotations).map(([text, value]) => {
      const name = expression.safeParse(text)
      if (!name.success)
        context.addIssue({ code: 'custom', message: `${JSON.stringify(text)} is no regular expression` })
      return { name: name.data ?? /(?!)/, value }
    }),
  }))

const document = z.strictObject({
  version: z.literal('1.0.0'),
  hook: z.strictObject({
    path: z.string().regex(/^\/[^\0]+$/, { error: 'must be an absolute path' }),
    args: z.array(z.string()).optional(),
    env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/)).optional(),
    /** Seconds. */
    timeout: z.int().min(1).optional(),
  }),
  when,
  stages: z.array(z.enum(HOOK_STAGES)).min(1),
})

export type HookFile = z.infer<typeof document>

/** @throws ZodError, SyntaxError for what has not the form */
export const parseHookFile = (text: string): HookFile => document.parse(JSON.parse(text))

/** What a container is judged by. */
export interface HookSubject {
  readonly annotations: Readonly<Record<string, string>>
  /** The path of the program. */
  readonly command: string
  /** Whether the request has any mounts. */
  readonly hasBindMounts: boolean
}

/** All conditions that the file names have to hold; a file that names none never applies. */
export const applies = ({ when: conditions }: HookFile, subject: HookSubject): boolean => {
  const { always, annotations, commands, hasBindMounts } = conditions
  const held: boolean[] = annotations.map(({ name, value }) =>
    Object.entries(subject.annotations).some(([key, text]) => name.test(key) && value.test(text)),
  )
  if (always !== undefined) held.push(always)
  if (hasBindMounts !== undefined) held.push(hasBindMounts && subject.hasBindMounts)
  if (commands !== undefined && commands.length > 0) held.push(commands.some((each) => each.test(subject.command)))
  return held.length > 0 && held.every(Boolean)
}

export const ociHook = ({ hook }: HookFile): OciHook => ({
  path: hook.path,
  ...(hook.args && { args: hook.args }),
  ...(hook.env && { env: hook.env }),
  timeout: hook.timeout ?? DEFAULT_TIMEOUT_SECONDS,
})
