/**
 * The wire is Kubernetes': names, numbers and types of api.proto and of the generated services are held against a table
 * that is kept apart from both. What the comments owe a reader is checked here too.
 */

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { ImageServiceService, RuntimeServiceService } from './generated/api.ts'
import { type CriDescriptor, type CriField, readCriDescriptor } from './testing/cri-descriptor.ts'

/** Message name to "number name: type" by number; service to method to "request -> [stream ]response". */
interface Numbers {
  services: Record<string, Record<string, string>>
  enums: Record<string, Record<string, number>>
  messages: Record<string, string[]>
}

const lineOf = ({ number, name, type, deprecated }: CriField): string =>
  `${number} ${name}: ${type}${deprecated ? ' (deprecated)' : ''}`

const tableOf = ({ services, enums, messages }: CriDescriptor): Numbers => ({
  services: Object.fromEntries(
    [...services].map(([name, { methods }]) => [
      name,
      Object.fromEntries(
        methods.map((rpc) => [rpc.name, `${rpc.request} -> ${rpc.streams ? 'stream ' : ''}${rpc.response}`]),
      ),
    ]),
  ),
  enums: Object.fromEntries([...enums].map(([name, { values }]) => [name, Object.fromEntries(values)])),
  messages: Object.fromEntries(
    [...messages].map(([name, { fields }]) => [name, fields.toSorted((a, b) => a.number - b.number).map(lineOf)]),
  ),
})

const sizeOf = (table: object): number => Object.keys(table).length

describe('the CRI v1 definition', () => {
  let numbers: Numbers
  let cri: CriDescriptor
  before(async () => {
    numbers = JSON.parse(await readFile(join(import.meta.dirname, 'testdata/cri-v1-numbers.json'), 'utf8'))
    cri = await readCriDescriptor()
  })

  test('the table is whole: 41 RPCs, 11 enums, 170 messages', () => {
    const { RuntimeService = {}, ImageService = {} } = numbers.services
    assert.deepEqual([sizeOf(RuntimeService), sizeOf(ImageService)], [35, 6])
    assert.equal(sizeOf(numbers.enums), 11)
    assert.equal(sizeOf(numbers.messages), 170)
  })

  test('api.proto has exactly the services, enums, messages and fields of the table', () => {
    assert.deepEqual(tableOf(cri), numbers)
  })

  test('the generated services have the paths and directions of the table', () => {
    const paths = Object.entries(numbers.services).flatMap(([service, methods]) =>
      Object.entries(methods).map(
        ([name, types]) => `/runtime.v1.${service}/${name} ${types.includes('-> stream ') ? 'streams' : 'unary'}`,
      ),
    )
    const generated = [RuntimeServiceService, ImageServiceService].flatMap((service) =>
      Object.values(service).map(({ path, requestStream, responseStream }) => {
        assert.equal(requestStream, false)
        return `${path} ${responseStream ? 'streams' : 'unary'}`
      }),
    )
    assert.deepEqual(generated.sort(), paths.sort())
  })

  test('every service, RPC, enum, message and field is described', () => {
    const silent: string[] = []
    const expectComment = (name: string, { comment }: { comment: string }): void => {
      if (comment.length < 3) silent.push(name)
    }
    for (const [name, service] of cri.services) {
      expectComment(name, service)
      for (const method of service.methods) expectComment(`${name}.${method.name}`, method)
    }
    for (const [name, each] of cri.enums) expectComment(name, each)
    for (const [name, message] of cri.messages) {
      expectComment(name, message)
      for (const field of message.fields) expectComment(`${name}.${field.name}`, field)
    }
    assert.deepEqual(silent, [])
  })

  test('a field that counts or measures names its unit', () => {
    const units = {
      _bytes: /[Bb]ytes/,
      timestamp: /nanoseconds/,
      created_at: /nanoseconds/,
      started_at: /nanoseconds/,
      finished_at: /nanoseconds/,
      timeout: /^Seconds/,
      cpu_period: /microseconds/,
      usage_core_nano_seconds: /nanoseconds/,
    }
    for (const [name, { fields }] of cri.messages)
      for (const field of fields)
        for (const [part, unit] of Object.entries(units))
          if (field.name.endsWith(part)) assert.match(field.comment, unit, `${name}.${field.name}`)
  })

  test('fields that hold secrets are marked', () => {
    const marked = [...cri.messages].flatMap(([name, { fields }]) =>
      fields.filter(({ redacted }) => redacted).map((field) => `${name}.${field.name}`),
    )
    assert.deepEqual(marked, [
      'KeyValue.value',
      'AuthConfig.username',
      'AuthConfig.password',
      'AuthConfig.auth',
      'AuthConfig.identity_token',
      'AuthConfig.registry_token',
    ])
  })
})
