/**
 * The file with the classes of block I/O, in the form that goresctrl made common:
 *
 *     Classes:
 *       slow:
 *         - Weight: 80
 *         - Devices: [/dev/vd[a-z], /dev/disk/by-id/*]
 *           ThrottleReadBps: 60M
 */
import { parse } from 'yaml'
import * as z from 'zod'

/** "60M" is 60,000,000; "60Mi" is 60 × 2^20. Numbers may stand for themselves. */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
}

const rate = z.union([z.int(), z.string()]).transform((value, context) => {
  const [, digits, unit = ''] = /^(\d{1,15})([kKMGT]i?)?$/.exec(String(value)) ?? []
  const factor = UNITS[unit]
  const number = digits === undefined || factor === undefined ? Number.NaN : Number(digits) * factor
  if (Number.isSafeInteger(number)) return number
  context.addIssue({ code: 'custom', message: 'must be a number, with k, M, G, T, Ki, Mi, Gi or Ti after it' })
  return z.NEVER
})

/** What the kernel takes. */
const weight = rate.refine((value) => value >= 10 && value <= 1000, { error: 'must be between 10 and 1000' })

const parameters = z
  .strictObject({
    Devices: z
      .array(z.string().regex(/^\/dev\/[^\0]+$/, { error: 'must be a path below /dev, with wildcards' }))
      .optional(),
    Weight: weight.optional(),
    ThrottleReadBps: rate.optional(),
    ThrottleWriteBps: rate.optional(),
    ThrottleReadIOPS: rate.optional(),
    ThrottleWriteIOPS: rate.optional(),
  })
  .refine(({ Devices, Weight: _, ...throttles }) => Devices !== undefined || Object.keys(throttles).length === 0, {
    error: 'limits something, but has no Devices',
  })

const file = z.strictObject({ Classes: z.record(z.string().min(1), z.array(parameters)).default({}) })

export type BlockioParameters = z.infer<typeof parameters>
export type BlockioClasses = Readonly<Record<string, readonly BlockioParameters[]>>

/** @throws ZodError, YAMLParseError for what has not the form */
export const parseBlockioFile = (text: string): BlockioClasses => file.parse(parse(text) ?? {}).Classes
