/** The pieces that the record schemas of sandboxes and containers share. */
import * as z from 'zod'

/** A bigint written as a decimal string. */
export const bigintText = z
  .string()
  .regex(/^-?\d+$/)
  .transform((text) => BigInt(text))

/** A protobuf message written as base64 of its wire form: exact, and unknown fields of newer kubelets survive. */
export const messageText = <T>(decode: (bytes: Uint8Array) => T) =>
  z.string().transform((text) => decode(Buffer.from(text, 'base64')))

export const messageToText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')

/** A process that is more than its number: a pid with the start time of /proc/PID/stat, in clock ticks. */
export const processIdentity = z.object({ pid: z.int().positive(), startTime: bigintText })
