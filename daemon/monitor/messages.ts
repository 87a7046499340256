/** What a monitor sends, checked: older and newer ones are understood by ignoring what is not known here. */
import * as z from 'zod'
import { decodeObject } from '#proto/conmon.ts'
import { RuntimeError } from '#proto/errors.ts'
import { parseExitRecord } from './exit-record.ts'

const InitProcess = z
  .object({ pid: z.int().positive(), startTime: z.string().regex(/^\d{1,20}$/) })
  .transform(({ pid, startTime }) => ({ pid, startTime: BigInt(startTime) }))

const ExitRecord = z.unknown().transform(parseExitRecord)
const counters = { bytesLogged: z.number(), bytesLost: z.number() }

const MonitorStatus = z.discriminatedUnion('state', [
  z.object({ state: z.literal('launched'), ...counters }),
  z.object({ state: z.literal('creating'), ...counters }),
  z.object({
    state: z.literal('alive'),
    init: InitProcess,
    started: z.boolean(),
    // Absent when not started, and from monitors of the first days.
    startedAtUnixNs: z
      .string()
      .regex(/^\d{1,20}$/)
      .transform(BigInt)
      .optional(),
    ...counters,
  }),
  z.object({ state: z.literal('ending'), init: InitProcess, ...counters }),
  z.object({ state: z.literal('ended'), record: ExitRecord, ...counters }),
])
/** Where the container's life stands, as its monitor sees it. */
export type MonitorStatus = z.infer<typeof MonitorStatus>

export const Welcome = z.object({ protocol: z.int().positive(), pid: z.int().positive(), status: MonitorStatus })
export type Welcome = z.infer<typeof Welcome>

const Failure = z.object({
  // A kind that a newer monitor has and we have not.
  kind: z
    .enum([
      'invalid-argument',
      'failed-precondition',
      'permission-denied',
      'deadline-exceeded',
      'resource-exhausted',
      'unimplemented',
      'unavailable',
      'internal',
    ])
    .catch('internal'),
  message: z.string(),
})

export const Reply = z.discriminatedUnion('reply', [
  z.object({ id: z.int(), reply: z.literal('done') }),
  z.object({ id: z.int(), reply: z.literal('created'), init: InitProcess }),
  z.object({ id: z.int(), reply: z.literal('status'), status: MonitorStatus }),
  z.object({ id: z.int(), reply: z.literal('failed'), failure: Failure }),
])
export type Reply = z.infer<typeof Reply>

/** Events of a kind not known here are `unknown`. */
export const Event = z.looseObject({ event: z.string() }).transform(({ event, record, message }) => {
  switch (event) {
    case 'exited':
      return { event, record: parseExitRecord(record) } as const
    case 'dropped':
      return { event, message: String(message) } as const
    default:
      return { event: 'unknown' } as const
  }
})
export type Event = z.infer<typeof Event>

/** @throws RuntimeError internal when the payload is not such a message */
export function decode<T>(schema: z.ZodType<T>, payload: Buffer, what: string): T {
  const parsed = schema.safeParse(decodeObject(payload))
  if (parsed.success) return parsed.data
  throw new RuntimeError('internal', `Monitor sent a ${what} that is not understood: ${z.prettifyError(parsed.error)}`)
}
