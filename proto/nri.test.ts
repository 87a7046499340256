/** Every message of the plugin interface comes back as it was sent, and damaged ones only ever throw an error. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BinaryReader } from '@bufbuild/protobuf/wire'
import fc from 'fast-check'
import * as nri from './generated/nri.ts'
import * as ttrpc from './generated/ttrpc.ts'

interface Codec {
  encode(message: unknown): { finish(): Uint8Array }
  decode(bytes: Uint8Array): unknown
  create(): unknown
}

const isCodec = (value: unknown): value is Codec =>
  typeof value === 'object' && value !== null && 'encode' in value && 'decode' in value && 'create' in value

const exported: [string, unknown][] = [...Object.entries(nri), ...Object.entries(ttrpc)]

const codecs = exported.flatMap(([name, value]) => (isCodec(value) ? [[name, value] as const] : []))

test('there is a codec for each message', () => {
  assert.ok(codecs.length > 80, String(codecs.length))
  assert.equal(nri.protobufPackage, 'nri.pkg.api.v1alpha1')
  assert.equal(ttrpc.protobufPackage, 'ttrpc')
  assert.deepEqual([nri.protobufFileName, ttrpc.protobufFileName], ['nri.proto', 'ttrpc.proto'])
})

test('an empty message takes no bytes and comes back', () => {
  for (const [name, codec] of codecs) {
    const bytes = codec.encode(codec.create()).finish()
    assert.equal(bytes.length, 0, name)
    assert.deepEqual(codec.decode(bytes), codec.create(), name)
  }
})

test('bytes that mean nothing are an error at most', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(codecs.length - 1), (bytes, index) => {
      try {
        codecs[index]?.[1].decode(bytes)
      } catch (error) {
        assert.ok(error instanceof Error)
      }
    }),
    { numRuns: 500 },
  )
})

/** Facts of the interface that nothing else here would notice a slip in: the tag on the wire is the number times eight, and the kind. */
test('fields have the numbers of the interface', () => {
  const { RegisterPluginRequest, ConfigureResponse, ContainerAdjustment, LinuxContainerAdjustment, Container } = nri
  const tags = {
    nriVersion: RegisterPluginRequest.encode(RegisterPluginRequest.create({ nriVersion: 'v' })),
    events: ConfigureResponse.encode({ events: 1 }),
    args: ContainerAdjustment.encode(ContainerAdjustment.create({ args: ['a'] })),
    rdt: LinuxContainerAdjustment.encode(LinuxContainerAdjustment.create({ rdt: {} })),
    image: Container.encode(Container.create({ image: {} })),
  }
  const first = Object.entries(tags).map(([name, writer]) => [name, new BinaryReader(writer.finish()).tag()[0]])
  assert.deepEqual(Object.fromEntries(first), { nriVersion: 3, events: 2, args: 9, rdt: 11, image: 22 })
})
