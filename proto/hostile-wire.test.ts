/**
 * Bytes that no honest client sends: unknown fields, wrong types, damage, and keys that aim at JavaScript's prototypes.
 * Decoding must skip them or throw an Error, and leave nothing behind.
 */

import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import { PodSandboxConfig } from './generated/api.ts'
import { CriArbitraries, codecOf, type Message } from './testing/cri-arbitrary.ts'
import { type CriDescriptor, readCriDescriptor } from './testing/cri-descriptor.ts'

/** One field of every wire type, under numbers that CRI does not use. */
const unknownFields = (): Uint8Array =>
  new BinaryWriter()
    .tag(1000, WireType.Varint)
    .uint64(2n ** 64n - 1n)
    .tag(1001, WireType.Bit64)
    .fixed64(7n)
    .tag(1002, WireType.LengthDelimited)
    .string('unknown')
    .tag(1003, WireType.Bit32)
    .fixed32(7)
    .tag(1004, WireType.StartGroup)
    .tag(1, WireType.Varint)
    .uint32(1)
    .tag(1004, WireType.EndGroup)
    .finish()

/** A PodSandboxConfig on the wire with these labels, whatever their keys. */
const withLabels = (...labels: [key: string, value: string][]): Uint8Array => {
  const writer = new BinaryWriter()
  for (const [key, value] of labels)
    writer.tag(6, WireType.LengthDelimited).fork().tag(1, 2).string(key).tag(2, 2).string(value).join()
  return writer.finish()
}

const prototypesNow = (): unknown =>
  [Object.prototype, Array.prototype, Function.prototype].map((each) => Object.getOwnPropertyDescriptors(each))

describe('hostile bytes', () => {
  let cri: CriDescriptor
  let arbitraries: CriArbitraries
  before(async () => {
    cri = await readCriDescriptor()
    arbitraries = new CriArbitraries(cri)
  })

  test('unknown fields before and after the known ones are skipped, in every message', () => {
    for (const name of cri.messages.keys()) {
      const codec = codecOf(name)
      for (const message of fc.sample(arbitraries.message(name), 2)) {
        const known = codec.encode(message).finish()
        assert.deepEqual(codec.decode(Buffer.concat([unknownFields(), known, unknownFields()])), message, name)
      }
    }
  })

  test('a known number with a foreign wire type is skipped like an unknown field', () => {
    for (const [name, { fields }] of cri.messages) {
      const codec = codecOf(name)
      for (const { number } of fields) {
        const bytes = new BinaryWriter().tag(number, WireType.Bit32).fixed32(0xffffffff).finish()
        assert.deepEqual(codec.decode(bytes), codec.create(), `${name} field ${number}`)
      }
    }
  })

  test('damaged and random bytes decode or throw an Error, nothing else', () => {
    const decode = (name: string, bytes: Uint8Array): Message | undefined => {
      try {
        return codecOf(name).decode(bytes)
      } catch (error) {
        assert.ok(error instanceof Error)
        return undefined
      }
    }
    const before = prototypesNow()
    for (const name of cri.messages.keys()) {
      for (const bytes of fc.sample(fc.uint8Array({ maxLength: 64 }), 20)) decode(name, bytes)
      for (const message of fc.sample(arbitraries.message(name), 2)) {
        const bytes = codecOf(name).encode(message).finish()
        for (const length of [1, 2, 3, bytes.length - 1]) decode(name, bytes.subarray(0, Math.max(0, length)))
      }
    }
    assert.deepEqual(prototypesNow(), before)
  })

  test('lengths beyond the message throw', () => {
    for (const length of [1, 0x7fffffff, 0xffffffff]) {
      const bytes = new BinaryWriter().tag(1, WireType.LengthDelimited).uint32(length).finish()
      assert.throws(() => PodSandboxConfig.decode(bytes), RangeError)
    }
  })

  test('groups nested 100,000 deep throw before the stack ends', () => {
    const bytes = new Uint8Array(100_000).fill(0x7b)
    assert.throws(() => PodSandboxConfig.decode(bytes), { message: 'maximum recursion depth reached' })
  })

  test("the map key '__proto__' reaches no prototype", () => {
    const before = prototypesNow()
    const { labels } = PodSandboxConfig.decode(withLabels(['__proto__', 'polluted'], ['app', 'web']))
    assert.deepEqual(labels, { app: 'web' })
    assert.equal(Object.getPrototypeOf(labels), Object.prototype)
    assert.deepEqual(prototypesNow(), before)
  })

  test("a part with an own property '__proto__' reaches no prototype", () => {
    const before = prototypesNow()
    const part: Message = JSON.parse('{"labels": {"__proto__": {"polluted": "yes"}, "app": "web"}}')
    const { labels } = PodSandboxConfig.fromPartial(part)
    assert.deepEqual(labels, { app: 'web' })
    assert.ok(!('polluted' in {}))
    assert.deepEqual(prototypesNow(), before)
  })

  test('map keys called like members of Object are ordinary keys', () => {
    const names = ['constructor', 'prototype', 'toString', 'valueOf', 'hasOwnProperty', '__defineGetter__']
    const { labels } = PodSandboxConfig.decode(withLabels(...names.map((name) => [name, 'x'] as [string, string])))
    assert.deepEqual(
      Object.entries(labels),
      names.map((name) => [name, 'x']),
    )
    const again = PodSandboxConfig.decode(PodSandboxConfig.encode(PodSandboxConfig.create({ labels })).finish())
    assert.deepEqual(again.labels, labels)
  })
})
