/** Follows paths on file systems that may not answer, in a helper process that is given up when they do not. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'
import { runCommand } from '#linux/run-command.ts'
import { isKind, RuntimeError } from '#proto/errors.ts'

export const ResolveRequest = z.array(z.strictObject({ path: z.string(), mayMake: z.boolean() }))
export type ResolveRequest = z.infer<typeof ResolveRequest>

const Resolved = z.union([z.strictObject({ path: z.string() }), z.strictObject({ error: z.string() })])
/** Where a path leads, or why that cannot be said. */
export type Resolved = z.infer<typeof Resolved>

/** A server under load takes seconds; the kubelet waits for two minutes. */
const PATIENCE_MS = 10_000

const worker = (): string => {
  const bundled = join(import.meta.dirname, 'resolve-worker.cjs')
  return existsSync(bundled) ? bundled : join(import.meta.dirname, 'resolve-worker.ts')
}

/** In the order of the request, which the helper follows: there is no answer from where the first silent file system is. */
export async function resolveApart(request: ResolveRequest, silenceMs = PATIENCE_MS): Promise<Resolved[]> {
  let said = ''
  const onStdout = (chunk: Buffer) => {
    said += chunk.toString()
  }
  const input = JSON.stringify(request)
  const args = ['--disable-warning=ExperimentalWarning', worker()]
  try {
    const { stderr } = await runCommand(process.execPath, args, { input, onStdout, silenceMs })
    if (answersIn(said).length < request.length)
      throw new RuntimeError('internal', `The helper that follows paths failed: ${stderr}`)
  } catch (error) {
    if (!isKind(error, 'deadline-exceeded')) throw error
  }
  return answersIn(said)
}

const answersIn = (said: string): Resolved[] =>
  said
    .split('\n')
    .slice(0, -1)
    .map((line) => Resolved.parse(JSON.parse(line)))
