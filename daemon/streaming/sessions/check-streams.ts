/** Which combinations of streams the CRI allows. */
import { RuntimeError } from '#proto/errors.ts'

export interface AskedStreams {
  readonly tty: boolean
  readonly stdin: boolean
  readonly stdout: boolean
  readonly stderr: boolean
}

/** @throws RuntimeError invalid-argument (api.proto, ExecRequest and AttachRequest) */
export function checkStreams(rpc: string, { tty, stdin, stdout, stderr }: AskedStreams): void {
  if (!stdin && !stdout && !stderr)
    throw new RuntimeError('invalid-argument', `${rpc}: one of stdin, stdout and stderr must be asked for`)
  if (tty && stderr)
    throw new RuntimeError(
      'invalid-argument',
      `${rpc}: tty and stderr exclude each other, as a terminal has one output`,
    )
}
