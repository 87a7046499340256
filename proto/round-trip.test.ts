/**
 * Every CRI message survives the wire: generated code is held against random messages, against the field numbers of
 * api.proto, and against buf's own codec, so that an error made the same way in both directions shows too.
 */

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import fc from 'fast-check'
import { ContainerConfig, ContainerState, LinuxContainerResources, PodSandboxStatus } from './generated/api.ts'
import { runBuf } from './run-buf.ts'
import { CriArbitraries, codecOf } from './testing/cri-arbitrary.ts'
import { type CriDescriptor, type CriField, readCriDescriptor } from './testing/cri-descriptor.ts'

const wireTypes: Record<string, number> = { bool: 0, int32: 0, uint32: 0, int64: 0, uint64: 0, double: 1 }

/** The key that precedes a field on the wire; lists of numbers are packed. */
const keyOf = ({ number, kind, of, repeated }: CriField): number =>
  number * 8 + (repeated ? 2 : kind === 'enum' ? 0 : (wireTypes[of] ?? 2))

const firstKey = (bytes: Uint8Array): number => {
  let key = 0
  for (const [i, byte] of bytes.entries()) {
    key += (byte & 0x7f) * 128 ** i
    if (byte < 0x80) break
  }
  return key
}

describe('CRI messages on the wire', () => {
  let cri: CriDescriptor
  let arbitraries: CriArbitraries
  before(async () => {
    cri = await readCriDescriptor()
    arbitraries = new CriArbitraries(cri)
  })

  test('every message comes back equal', () => {
    for (const name of cri.messages.keys()) {
      const codec = codecOf(name)
      fc.assert(
        fc.property(arbitraries.message(name), (message) => {
          const bytes = codec.encode(message).finish()
          assert.deepEqual(codec.decode(bytes), message, name)
        }),
        { numRuns: 25 },
      )
    }
  })

  test('every field is written under its number of api.proto, and alone', () => {
    for (const [name, { fields }] of cri.messages) {
      const codec = codecOf(name)
      assert.equal(codec.encode(codec.create()).finish().length, 0, `${name} is empty by default`)
      for (const field of fields) {
        assert.ok(field.property in codec.create(), `${name} has a property '${field.property}'`)
        const arbitrary = arbitraries
          .field(field)
          .map((value) => codec.encode(codec.create({ [field.property]: value })).finish())
          .filter((bytes) => bytes.length > 0)
        for (const bytes of fc.sample(arbitrary, 3))
          assert.equal(firstKey(bytes), keyOf(field), `${name}.${field.name} has its key`)
      }
    }
  })

  test('create and fromPartial fill what is not given and keep what is', () => {
    for (const name of cri.messages.keys()) {
      const codec = codecOf(name)
      assert.deepEqual(codec.create(), codec.decode(new Uint8Array()), name)
      for (const message of fc.sample(arbitraries.message(name), 3)) {
        assert.deepEqual(codec.fromPartial(message), message, name)
        assert.deepEqual(codec.create(message), message, name)
      }
    }
  })

  test('64-bit integers keep every bit', () => {
    for (const value of [2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, -1n]) {
      const sent = LinuxContainerResources.create({ memoryLimitInBytes: value })
      assert.equal(
        LinuxContainerResources.decode(LinuxContainerResources.encode(sent).finish()).memoryLimitInBytes,
        value,
      )
    }
    const now = 1_777_777_777_123_456_789n
    const status = PodSandboxStatus.decode(
      PodSandboxStatus.encode(PodSandboxStatus.create({ createdAt: now })).finish(),
    )
    assert.equal(status.createdAt, now)
  })

  test('bytes that are not UTF-8 pass through environment values', () => {
    const value = Buffer.from([0xff, 0xfe, 0x80, 0x00])
    const sent = ContainerConfig.create({ envs: [{ key: 'RAW', value }] })
    const { envs } = ContainerConfig.decode(ContainerConfig.encode(sent).finish())
    assert.deepEqual(envs, [{ key: 'RAW', value }])
  })

  test('a number unknown to an enum is kept as it came', () => {
    const bytes = Uint8Array.of(0x08, 99)
    const codec = codecOf('ContainerStateValue')
    assert.deepEqual(codec.decode(bytes), { state: 99 })
    assert.deepEqual([...codec.encode({ state: 99 }).finish()], [...bytes])
    assert.ok(!Object.values<number>(ContainerState).includes(99))
  })

  test("buf's own codec reads and writes the same messages", async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'cricket-round-trip-'))
    t.after(() => rm(directory, { recursive: true, force: true }))
    const file = (name: string): string => join(directory, name)
    for (const name of [
      'ContainerConfig',
      'PodSandboxStatusResponse',
      'ListContainerStatsResponse',
      'StatusResponse',
    ]) {
      const codec = codecOf(name)
      const convert = ['convert', 'cri', '--type', `runtime.v1.${name}`]
      for (const message of fc.sample(arbitraries.message(name), 2)) {
        await writeFile(file('ours.binpb'), codec.encode(message).finish())
        await runBuf([...convert, '--from', file('ours.binpb'), '--to', file('theirs.json')])
        await runBuf([...convert, '--from', file('theirs.json'), '--to', file('theirs.binpb')])
        assert.deepEqual(codec.decode(await readFile(file('theirs.binpb'))), message, name)
      }
    }
  })
})
