/**
 * Random CRI messages for property tests: one fast-check arbitrary per message, built from the descriptor, and the
 * generated codec that goes with it.
 */

import fc from 'fast-check'
import * as api from '../generated/api.ts'
import type { CriDescriptor, CriField } from './cri-descriptor.ts'

export type Message = Record<string, unknown>

/** What tests use of a generated message. */
export interface Codec {
  encode(message: Message): { finish(): Uint8Array }
  decode(bytes: Uint8Array): Message
  create(base?: Message): Message
  fromPartial(part: Message): Message
}

const isCodec = (value: unknown): value is Codec =>
  typeof value === 'object' && value !== null && 'encode' in value && 'decode' in value && 'fromPartial' in value

const generated = new Map<string, unknown>(Object.entries(api))

/** The generated codec of a message; throws when there is none. */
export const codecOf = (name: string): Codec => {
  const codec = generated.get(name)
  if (!isCodec(codec)) throw new Error(`no generated codec for message '${name}'`)
  return codec
}

const extremes = [0n, 1n, -1n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]
const text = fc.string({ unit: 'binary', maxLength: 12 })
/** Labels and annotations may be called like members of Object; "__proto__" has a test of its own. */
const mapKey = fc
  .oneof(text, fc.constantFrom('constructor', 'toString', 'hasOwnProperty', 'prototype'))
  .filter((key) => key !== '__proto__')

/** Arbitraries by scalar type, each with its extremes. -0 is left out: the generated code writes it as 0. */
const scalars = new Map<string, fc.Arbitrary<unknown>>([
  ['string', text],
  ['bool', fc.boolean()],
  ['bytes', fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes))],
  ['double', fc.double().map((value) => (value === 0 ? 0 : value))],
  ['int32', fc.oneof(fc.integer(), fc.constantFrom(0, 2 ** 31 - 1, -(2 ** 31)))],
  ['uint32', fc.oneof(fc.nat(), fc.constantFrom(0, 2 ** 32 - 1))],
  ['int64', fc.oneof(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.constantFrom(...extremes))],
  ['uint64', fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 2n ** 63n, 2n ** 64n - 1n))],
])

/** Makes arbitraries for the messages of a descriptor, each once. */
export class CriArbitraries {
  readonly #cri: CriDescriptor
  readonly #made = new Map<string, fc.Arbitrary<Message>>()

  constructor(cri: CriDescriptor) {
    this.#cri = cri
  }

  /** Any value of this message that the generated types allow. CRI has no message that contains itself. */
  message(name: string): fc.Arbitrary<Message> {
    const made = this.#made.get(name)
    if (made !== undefined) return made
    const description = this.#cri.messages.get(name)
    if (description === undefined) throw new Error(`no message '${name}' in the descriptor`)
    const fields = description.fields.map((field) => [field.property, this.field(field)] as const)
    const arbitrary = fc.record(Object.fromEntries(fields), { noNullPrototype: true })
    this.#made.set(name, arbitrary)
    return arbitrary
  }

  /** Any value of a field, its absence included. */
  field(field: CriField): fc.Arbitrary<unknown> {
    if (field.kind === 'map') return fc.dictionary(mapKey, text, { maxKeys: 3, noNullPrototype: true })
    const single = this.#single(field)
    if (field.repeated) return fc.array(single, { maxLength: 2 })
    return field.kind === 'message' ? fc.option(single, { nil: undefined, freq: 3 }) : single
  }

  #single({ kind, of }: CriField): fc.Arbitrary<unknown> {
    if (kind === 'message') return this.message(of)
    if (kind === 'enum') return fc.constantFrom(...(this.#cri.enums.get(of)?.values.values() ?? []))
    const scalar = scalars.get(of)
    if (scalar === undefined) throw new Error(`no arbitrary for type '${of}'`)
    return scalar
  }
}
