/** Entry of the worker thread that touches trees from images and containers. One job at a time, each confined to its directory. */
import { closeSync, openSync, readdirSync, unlinkSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { lsetXattr } from '#linux/xattr.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { compareLayer, describeLayer } from '../check/describe-tree.ts'
import { decodeManifest, encodeManifest } from '../check/manifest.ts'
import { garbageLimit } from '../garbage.ts'
import { copyTrees } from '../snapshot/copy-trees.ts'
import { toBytes } from '../tree/bytes.ts'
import { measureTree } from '../tree/measure-tree.ts'
import { removeTree } from '../tree/remove-tree.ts'
import { Confinement } from './confine.ts'
import { bytesOf, decompressed } from './decompress.ts'
import { FileExtractor } from './extract-files.ts'
import { fixUp } from './fix-up.ts'
import { packTree } from './pack-tree.ts'
import { EntryReader, type EntrySink } from './read-entries.ts'
import { refused, tooMuch } from './refused.ts'
import { LayerUnpacker } from './unpack-layer.ts'
import type { UnpackedLayer } from './unpack-messages.ts'
import { OPAQUE_XATTR } from './whiteout.ts'
import type { JobName, ReplyOf, RequestOf, WorkerReply, WorkerRequest } from './worker-jobs.ts'

type Checkpoint = () => void

const collectAfter = garbageLimit(8 * 2 ** 20)

/** Marks as opaque what the archive says: this thread may, unlike those that unpack layers. */
const unpack = async (
  confinement: Confinement,
  { blob, directory, whiteouts = [], limits }: RequestOf<'unpack'>,
  checkpoint: Checkpoint,
): Promise<UnpackedLayer> => {
  const fd = openSync(blob, 'r')
  try {
    return await confinement.run(directory, async () => {
      const unpacker = new LayerUnpacker(limits)
      try {
        await readArchive(fd, unpacker, { bytes: limits.archiveBytes, headers: limits.headers }, checkpoint)
        for (const name of whiteouts) unpacker.hide(name)
        const unpacked = unpacker.finish()
        if (unpacked.lowerLinks.length > 0) throw refused('Archive has hard links to what is not in it')
        for (const path of unpacked.opaque) lsetXattr(toBytes(`/${path}`), OPAQUE_XATTR, Buffer.from('y'))
        return unpacked
      } finally {
        unpacker.close()
      }
    })
  } finally {
    closeSync(fd)
  }
}

const extract = (
  confinement: Confinement,
  { archive, directory, limits }: RequestOf<'extract'>,
  checkpoint: Checkpoint,
): Promise<{ bytes: number }> =>
  confinement.run(directory, async () => {
    const extractor = new FileExtractor(limits)
    try {
      const headers = 4 * limits.files
      return { bytes: await readArchive(archive, extractor, { bytes: limits.bytes, headers }, checkpoint) }
    } finally {
      extractor.close()
    }
  })

/** Returns how many bytes the archive has once it is decompressed. */
const readArchive = async (
  fd: number,
  sink: EntrySink,
  limits: { readonly bytes: number; readonly headers: number },
  onChunk: (chunk: Buffer) => void,
): Promise<number> => {
  const reader = new EntryReader(sink, limits.headers)
  let bytes = 0
  for await (const chunk of decompressed(bytesOf(fd))) {
    bytes += chunk.length
    if (bytes > limits.bytes) throw tooMuch(`Archive has more than ${limits.bytes} bytes`)
    onChunk(chunk)
    reader.push(chunk)
    collectAfter(chunk.length)
  }
  reader.finish()
  return bytes
}

/** Goes on with the next tree when one cannot be removed: it is tried again later. */
const emptyDirectory = (checkpoint: Checkpoint): { failures: string[] } => {
  const failures: string[] = []
  for (const entry of readdirSync('.', { encoding: 'latin1', withFileTypes: true })) {
    try {
      if (entry.isDirectory()) removeTree(entry.name, checkpoint)
      else unlinkSync(toBytes(entry.name))
    } catch (error) {
      checkpoint()
      failures.push(`${entry.name}: ${messageOf(error)}`)
    }
  }
  return { failures }
}

const perform = (
  confinement: Confinement,
  message: WorkerRequest,
  checkpoint: Checkpoint,
): Promise<ReplyOf<JobName>> => {
  switch (message.job) {
    case 'unpack':
      return unpack(confinement, message.request, checkpoint)
    case 'fix-up': {
      const { directory, recursive, ...request } = message.request
      return confinement.run(directory, () => fixUp(request, checkpoint), recursive)
    }
    case 'empty':
      return confinement.run(message.request.directory, () => emptyDirectory(checkpoint))
    case 'copy':
      return copyTrees(confinement, message.request, checkpoint)
    case 'describe': {
      const { directory, known } = message.request
      return confinement.run(directory, () => ({ manifest: encodeManifest(describeLayer(known, checkpoint)) }))
    }
    case 'compare': {
      const manifest = decodeManifest(message.request.manifest)
      return confinement.run(message.request.directory, () => compareLayer(manifest, checkpoint))
    }
    case 'pack': {
      const { directory, output, limits } = message.request
      return confinement.run(directory, () => packTree(output, limits, checkpoint))
    }
    case 'extract':
      return extract(confinement, message.request, checkpoint)
    case 'measure':
      return confinement.run(message.request.directory, () => measureTree('.', checkpoint))
  }
}

const failure = (error: unknown): WorkerReply => {
  if (error instanceof RuntimeError) return { ok: false, kind: error.kind, message: error.message }
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined
  return { ok: false, ...(code !== undefined && { code }), message: messageOf(error) }
}

const port = parentPort
if (port !== null) {
  const confinement = new Confinement()
  port.on('message', async (message: WorkerRequest) => {
    const checkpoint = (): void => {
      if (Atomics.load(message.cancel, 0) !== 0)
        throw new RuntimeError('cancelled', `Job "${message.job}" was cancelled`)
    }
    try {
      port.postMessage({ ok: true, reply: await perform(confinement, message, checkpoint) } satisfies WorkerReply)
    } catch (error) {
      port.postMessage(failure(error))
    }
  })
}
