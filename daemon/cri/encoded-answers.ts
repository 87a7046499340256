/**
 * Answers that are lists, made of items that are encoded already, as protobuf has it for repeated fields: one after the other. However
 * many there are, nobody else waits for them longer than for a slice, and none becomes a message that a client would refuse.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { RuntimeError } from '#proto/errors.ts'
import type { RuntimeServiceService } from '#proto/generated/api.ts'

/** The kubelet's own limit for what it receives. */
export const maxMessageBytes = 16 * 1024 * 1024
/** Of one message of a stream, from which it is sent. */
const CHUNK_BYTES = 512 * 1024
const SLICE_MS = 10

type Method = keyof typeof RuntimeServiceService

/** Those whose handlers give bytes instead of messages. */
export const encodedMethods = [
  'listPodSandbox',
  'streamPodSandboxes',
  'listContainers',
  'streamContainers',
  'containerStats',
  'listContainerStats',
  'streamContainerStats',
  'podSandboxStats',
  'listPodSandboxStats',
  'streamPodSandboxStats',
  'listPodSandboxMetrics',
  'streamPodSandboxMetrics',
  'getContainerEvents',
] as const satisfies readonly Method[]

type Items = Iterable<Uint8Array> | AsyncIterable<Uint8Array>

/** Makes what lets others have their turn once a slice of time is over. */
function slices(): () => Promise<void> | undefined {
  let began = performance.now()
  return () => {
    if (performance.now() - began < SLICE_MS) return undefined
    return nextTurn().then(() => {
      began = performance.now()
    })
  }
}

/**
 * All items in one message.
 * @param instead the RPC that has no such limit
 * @throws RuntimeError resource-exhausted when that is more than a client takes
 */
export async function wholeAnswer(items: Items, instead: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  let bytes = 0
  const pause = slices()
  for await (const item of items) {
    parts.push(item)
    bytes += item.length
    if (bytes > maxMessageBytes) throw tooLarge(instead)
    const paused = pause()
    if (paused) await paused
  }
  return Buffer.concat(parts, bytes)
}

const tooLarge = (instead: string): RuntimeError =>
  new RuntimeError(
    'resource-exhausted',
    `The answer has more than ${maxMessageBytes} bytes, which is all that a message may hold: use ${instead}, or a filter`,
  )

/** The items in messages that are far below the limit; none when there is none. */
export async function* answerInChunks(items: Items): AsyncGenerator<Buffer> {
  let parts: Uint8Array[] = []
  let bytes = 0
  const pause = slices()
  for await (const item of items) {
    parts.push(item)
    bytes += item.length
    if (bytes >= CHUNK_BYTES) {
      yield Buffer.concat(parts, bytes)
      parts = []
      bytes = 0
    }
    const paused = pause()
    if (paused) await paused
  }
  if (bytes > 0) yield Buffer.concat(parts, bytes)
}
