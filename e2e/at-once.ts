/** Calls that are made at the same time, and how each of them ended. */

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { CriError } from './cri-client.ts'

export const DUPLICATES = 50
/** Each crossing is tried with these head starts (ms) of its first call. */
export const HEAD_STARTS = [0, 0, 1, 3, 10, 30, 60]

/** How a call ended: its answer, or the code it failed with. */
export type Outcome<T> = { ok: true; value: T } | { ok: false; code: status; message: string }

export async function outcome<T>(call: Promise<T>): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await call }
  } catch (error) {
    if (!(error instanceof CriError)) throw error
    return { ok: false, code: error.code, message: error.message }
  }
}

export const codeOf = (result: Outcome<unknown>): status => (result.ok ? status.OK : result.code)

/** The same call, fifty times at once. */
export const times = <T>(call: () => Promise<T>): Promise<Outcome<T>[]> =>
  Promise.all(Array.from({ length: DUPLICATES }, () => outcome(call())))

export const codes = (results: Outcome<unknown>[]): status[] =>
  [...new Set(results.map(codeOf))].toSorted((a, b) => a - b)

export const allOk = (results: Outcome<unknown>[]): void =>
  assert.deepEqual(codes(results), [status.OK], results.flatMap((each) => (each.ok ? [] : [each.message]))[0] ?? '')

export const isOneOf = (result: Outcome<unknown>, ...allowed: status[]): void =>
  assert.ok(allowed.includes(codeOf(result)), result.ok ? 'OK' : result.message)

export type Call = () => Promise<unknown>

/** The two calls, the earlier one with this head start (ms). */
export async function cross(
  earlier: Call,
  later: Call,
  headStart: number,
): Promise<[Outcome<unknown>, Outcome<unknown>]> {
  const first = outcome(earlier())
  if (headStart > 0) await sleep(headStart)
  return Promise.all([first, outcome(later())])
}
