/** Entry of the process that unpacks layers, one at a time: everything in a layer is a stranger's, and here is all that reads it. */
import { getPriority, setPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { tryAgain, writeSome } from '#linux/descriptor.ts'
import { sysError } from '#linux/sys.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { algorithmOf, digestStream } from '../digest.ts'
import { garbageLimit } from '../garbage.ts'
import { ProcessConfinement } from './confine-process.ts'
import { decompressed } from './decompress.ts'
import { FollowedBlob } from './followed-blob.ts'
import { Lines } from './lines.ts'
import { EntryReader } from './read-entries.ts'
import { refused, tooMuch } from './refused.ts'
import { LayerUnpacker } from './unpack-layer.ts'
import type { FromUnpacker, ToUnpacker, UnpackedLayer, UnpackRequest } from './unpack-messages.ts'
import { isArchivesFault } from './worker-errors.ts'

const REPLIES = 1
/** The daemon feeds us and answers others meanwhile: it goes first where there are not enough processors. */
const NICE = 5
const LEAST_PRIORITY = 19
const MAX_REQUEST_BYTES = 2 ** 20
/** As unpack-process.ts hands them over. */
const PLACES = { temp: 3, whole: 4, partial: 5 }

interface Job {
  readonly request: UnpackRequest
  readonly blob: FollowedBlob
}

/** The bytes are not those of the digest. */
class WrongBlob extends Error {}

const collectAfter = garbageLimit(8 * 2 ** 20)

const unpackArchive = async ({ request, blob }: Job): Promise<UnpackedLayer> => {
  const unpacker = new LayerUnpacker(request.limits, sayWroteMuch)
  try {
    const reader = new EntryReader(unpacker, request.limits.headers)
    const hash = digestStream(algorithmOf(request.diffId))
    let bytes = 0
    for await (const chunk of decompressed(blob, request.compression)) {
      bytes += chunk.length
      if (bytes > request.limits.archiveBytes) throw tooMuch(`Layer has more than ${request.limits.archiveBytes} bytes`)
      hash.update(chunk)
      reader.push(chunk)
      collectAfter(chunk.length)
    }
    reader.finish()
    const actual = hash.digest()
    if (actual !== request.diffId) throw refused(`Layer has diff id "${actual}", not "${request.diffId}"`)
    return unpacker.finish()
  } finally {
    unpacker.close()
  }
}

/** Whose bytes are wrong is told so first: what such a layer seems to contain nobody has said. */
const unpack = async (job: Job): Promise<UnpackedLayer> => {
  try {
    const layer = await unpackArchive(job)
    await checkDigest(job)
    return layer
  } catch (error) {
    if (isArchivesFault(error)) await checkDigest(job)
    throw error
  }
}

const checkDigest = async ({ request, blob }: Job): Promise<void> => {
  const actual = await blob.digest()
  if (actual !== request.digest) throw new WrongBlob(`Blob "${request.digest}" came with the digest "${actual}"`)
}

const failure = (error: unknown): FromUnpacker => {
  const message = messageOf(error)
  if (error instanceof WrongBlob) return { is: 'wrong-blob', message }
  if (error instanceof RuntimeError) {
    const { kind } = error
    const isOurs = kind === 'failed-precondition' || kind === 'resource-exhausted' || kind === 'cancelled'
    return { is: 'failed', kind: isOurs ? kind : 'internal', message }
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined
  return { is: 'failed', ...(code !== undefined && { code }), message }
}

/** The pipe is not ours alone to say whether it blocks: what it does not take at once is offered again. */
const reply = async (value: FromUnpacker): Promise<void> => {
  const bytes = Buffer.from(`${JSON.stringify(value)}\n`)
  for (let done = 0; done < bytes.length; ) {
    const count = writeSome(REPLIES, bytes.subarray(done))
    if (count >= 0) done += count
    else if (count === tryAgain) await sleep(1)
    else throw sysError(count, 'write')
  }
}

const WROTE_MUCH = Buffer.from(`${JSON.stringify({ is: 'wrote-much' } satisfies FromUnpacker)}\n`)

/** Whole, or not at all when the pipe is full: nothing is lost then. Never within a reply, which comes when all is written. */
const sayWroteMuch = (): void => void writeSome(REPLIES, WROTE_MUCH)

const serve = async (): Promise<void> => {
  setPriority(Math.min(getPriority() + NICE, LEAST_PRIORITY))
  const confinement = new ProcessConfinement(PLACES)
  let job: Job | undefined
  const start = async (request: UnpackRequest): Promise<void> => {
    using blob = new FollowedBlob(confinement.openBlob(request.place, request.name), request)
    const own = { request, blob }
    job = own
    const layer = await confinement.run(request.directory, () => unpack(own))
    await reply({ is: 'unpacked', layer })
  }
  const obey = (message: ToUnpacker): void => {
    if ('unpack' in message) start(message.unpack).catch((error) => reply(failure(error)))
    else if ('available' in message) job?.blob.reached(message.available)
    else job?.blob.cancel()
  }
  const lines = new Lines(MAX_REQUEST_BYTES)
  for await (const bytes of process.stdin) for (const line of lines.take(bytes)) obey(JSON.parse(line) as ToUnpacker)
}

serve().then(
  () => process.exit(0),
  (error) => {
    console.error(messageOf(error))
    process.exit(1)
  },
)
