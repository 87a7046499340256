import assert from 'node:assert/strict'
import { readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { digestOf, parseDigest } from './digest.ts'
import { nameOf } from './layout.ts'
import { inPieces, temporaryStorage } from './testing/temporary-storage.ts'

const content = Buffer.alloc(300_000, 'some bytes ')
const digest = digestOf(content)

async function* broken(bytes: Buffer): AsyncGenerator<Buffer> {
  yield* inPieces(bytes)
  throw new Error('connection reset')
}

const precondition = (error: unknown): boolean => isKind(error, 'failed-precondition')

describe('BlobStore', () => {
  it('stores what matches, by sha256 and sha512, and gives it back', async (t) => {
    const { storage, root } = await temporaryStorage(t)
    for (const name of [digest, digestOf(content, 'sha512')]) {
      await storage.blobs.put(name, inPieces(content), { size: content.length })
      assert.deepEqual(await storage.blobs.read(name, { maxBytes: content.length }), content)
      assert.deepEqual(await buffer(storage.blobs.open(name)), content)
      assert.equal(storage.blobs.size(name), content.length)
    }
    assert.equal(storage.blobs.list().length, 2)
    assert.equal(statSync(join(root, 'blobs', nameOf(digest))).mode & 0o777, 0o600)
  })

  it('refuses other bytes and other sizes, and keeps nothing of them (C13)', async (t) => {
    const { storage, root } = await temporaryStorage(t)
    const { blobs } = storage
    await assert.rejects(blobs.put(digest, inPieces(Buffer.alloc(300_000)), { size: 300_000 }), precondition)
    await assert.rejects(blobs.put(digest, inPieces(content), { size: content.length - 1 }), precondition)
    assert.deepEqual(readdirSync(join(root, 'partial-blobs')), [])
    assert.equal(blobs.has(digest), false)
    assert.deepEqual(blobs.list(), [])
  })

  it('stops reading an endless source at its size (C6)', async (t) => {
    const { storage } = await temporaryStorage(t)
    let pieces = 0
    const endless = async function* (): AsyncGenerator<Buffer> {
      for (;;) {
        pieces += 1
        yield Buffer.alloc(1000)
      }
    }
    await assert.rejects(storage.blobs.put(digest, endless(), { size: 5000 }), precondition)
    assert.equal(pieces, 6)
  })

  it('goes on where a broken transfer stopped, after a restart too', async (t) => {
    const temporary = await temporaryStorage(t)
    const first = temporary.storage.blobs.put(digest, broken(content.subarray(0, 200_000)), { size: content.length })
    await assert.rejects(first, /connection reset/)
    assert.equal(temporary.storage.blobs.has(digest), false)
    await temporary.reopen()
    const { blobs } = temporary.storage
    const resumeFrom = await blobs.partial(digest)
    assert.equal(resumeFrom, 200_000)
    await blobs.put(digest, inPieces(content.subarray(resumeFrom)), { size: content.length, resumeFrom })
    assert.deepEqual(await blobs.read(digest, { maxBytes: 1e6 }), content)
    assert.equal(await blobs.partial(digest), 0)
  })

  it('may go on earlier than where it stopped, never later', async (t) => {
    const { storage } = await temporaryStorage(t)
    const { blobs } = storage
    await assert.rejects(blobs.put(digest, broken(content.subarray(0, 200_000))), /reset/)
    await assert.rejects(blobs.put(digest, inPieces(content), { resumeFrom: 200_001 }), (error) =>
      isKind(error, 'invalid-argument'),
    )
    await blobs.put(digest, inPieces(content.subarray(1000)), { resumeFrom: 1000 })
    assert.ok(blobs.has(digest))
  })

  it('throws away a partial blob whose bytes turn out wrong', async (t) => {
    const { storage } = await temporaryStorage(t)
    const { blobs } = storage
    await assert.rejects(blobs.put(digest, broken(Buffer.alloc(1000, 'x')), {}), /reset/)
    const rest = blobs.put(digest, inPieces(content.subarray(1000)), { size: content.length, resumeFrom: 1000 })
    await assert.rejects(rest, precondition)
    assert.equal(await blobs.partial(digest), 0)
  })

  it('keeps what came when the source ends early or the caller gives up', async (t) => {
    const { storage } = await temporaryStorage(t)
    const { blobs } = storage
    const short = blobs.put(digest, inPieces(content.subarray(0, 64 * 1024)), { size: content.length })
    await assert.rejects(short, (error) => isKind(error, 'unavailable'))
    assert.equal(await blobs.partial(digest), 64 * 1024)
    const abort = new AbortController()
    const aborting = async function* (): AsyncGenerator<Buffer> {
      yield content.subarray(0, 100_000)
      abort.abort(new Error('given up'))
      yield content.subarray(100_000)
    }
    await assert.rejects(blobs.put(digest, aborting(), { signal: abort.signal }), /given up/)
    assert.equal(await blobs.partial(digest), 100_000)
  })

  it('receives a blob once when two ask at the same time', async (t) => {
    const { storage } = await temporaryStorage(t)
    let read = 0
    const source = async function* (): AsyncGenerator<Buffer> {
      read += 1
      yield* inPieces(content)
    }
    await Promise.all([storage.blobs.put(digest, source()), storage.blobs.put(digest, source())])
    assert.equal(read, 1)
  })

  it('quarantines a blob that was damaged on disk, and only that one', async (t) => {
    const { storage, root, put } = await temporaryStorage(t)
    await put(content)
    const other = await put(Buffer.from('other'))
    truncateSync(join(root, 'blobs', nameOf(digest)), 10)
    await assert.rejects(storage.blobs.read(digest, { maxBytes: 1e6 }), precondition)
    assert.equal(storage.blobs.has(digest), false)
    assert.equal(readdirSync(join(root, 'quarantine')).length, 1)
    assert.ok(storage.blobs.has(other))
  })

  it('reads no more than allowed, and says what is missing', async (t) => {
    const { storage, put } = await temporaryStorage(t)
    await put(content)
    await assert.rejects(storage.blobs.read(digest, { maxBytes: 10 }), (error) => isKind(error, 'resource-exhausted'))
    const missing = parseDigest(`sha256:${'0'.repeat(64)}`)
    await assert.rejects(storage.blobs.read(missing, { maxBytes: 10 }), (error) => isKind(error, 'not-found'))
  })

  it('removes and collects, whole and partial, twice if need be', async (t) => {
    const { storage, root, put } = await temporaryStorage(t)
    const { blobs } = storage
    const kept = await put(Buffer.from('kept'))
    await put(Buffer.from('other'))
    await assert.rejects(blobs.put(digest, broken(content)), /reset/)
    await blobs.collectGarbage({ keep: new Set([kept]) })
    assert.deepEqual(blobs.list(), [kept])
    assert.deepEqual(readdirSync(join(root, 'partial-blobs')), [])
    await blobs.remove(kept)
    await blobs.remove(kept)
    assert.deepEqual(blobs.usage(), { bytes: 0, inodes: 0 })
  })

  it('knows its blobs after a restart, and puts strangers aside', async (t) => {
    const temporary = await temporaryStorage(t)
    await temporary.put(content)
    writeFileSync(join(temporary.root, 'blobs', 'stranger'), 'x')
    const usage = temporary.storage.blobs.usage()
    await temporary.reopen()
    assert.deepEqual(temporary.storage.blobs.list(), [digest])
    assert.deepEqual(temporary.storage.blobs.usage(), usage)
    assert.match(readdirSync(join(temporary.root, 'quarantine'))[0] ?? '', /^stranger/)
  })
})
