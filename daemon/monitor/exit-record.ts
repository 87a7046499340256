/** Reading what a monitor has written about its container's end. It is the truth; the monitor's event only says that it is there. */
import { join } from 'node:path'
import * as z from 'zod'
import { readFileIfExists } from '#linux/atomic-file.ts'
import { type ExitRecord, exitRecordFromWire, monitorFiles } from '#proto/conmon.ts'
import { RuntimeError } from '#proto/errors.ts'

export type { ExitRecord } from '#proto/conmon.ts'

const maxBytes = 64 * 1024
const decimal = z.string().regex(/^\d{1,20}$/)

const WireRecord = z.object({
  id: z.string(),
  pid: z.int().nonnegative(),
  startTime: decimal,
  bootId: z.string(),
  code: z.int().min(0).max(255),
  signal: z.int().min(0).max(127),
  oomKilled: z.boolean(),
  startedAtUnixNs: decimal.exactOptional(),
  finishedAtUnixNs: decimal,
  bytesLogged: z.number().nonnegative(),
  bytesLost: z.number().nonnegative(),
  journalLost: z.int().positive().exactOptional(),
  unknown: z.string().exactOptional(),
})

/** @throws RuntimeError internal when the record is not one */
export function parseExitRecord(value: unknown): ExitRecord {
  const parsed = WireRecord.safeParse(value)
  if (parsed.success) return exitRecordFromWire(parsed.data)
  throw new RuntimeError('internal', `Exit record is damaged: ${z.prettifyError(parsed.error)}`)
}

/** The exit record in a container's state directory; undefined while there is none. */
export async function readExitRecord(dir: string): Promise<ExitRecord | undefined> {
  const path = join(dir, monitorFiles.exitRecord)
  const bytes = await readFileIfExists(path, maxBytes)
  if (bytes === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(bytes.toString())
  } catch (cause) {
    throw new RuntimeError('internal', `Exit record "${path}" is not JSON`, { cause })
  }
  return parseExitRecord(value)
}
