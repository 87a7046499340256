import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseImageConfig } from './image-config.ts'

const digest = `sha256:${'c'.repeat(64)}`
const rootfs = { type: 'layers', diff_ids: [digest] }
const parse = (text: string) => parseImageConfig(Buffer.from(text), 'Config')

suite('image config', () => {
  test('reads what an image says', () => {
    const { config, diffIds } = parse(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        created: '2024-01-01T00:00:00Z',
        rootfs,
        config: {
          User: '1000:1000',
          Env: ['A=b'],
          Entrypoint: ['/e'],
          Cmd: ['c'],
          WorkingDir: '/w',
          StopSignal: 'SIGQUIT',
          Labels: { l: 'v' },
          Volumes: { '/data': {} },
          ExposedPorts: { '80/tcp': {} },
        },
      }),
    )
    assert.deepEqual(diffIds, [digest])
    assert.deepEqual(config, {
      user: '1000:1000',
      env: ['A=b'],
      entrypoint: ['/e'],
      cmd: ['c'],
      workingDir: '/w',
      stopSignal: 'SIGQUIT',
      labels: { l: 'v' },
      volumes: ['/data'],
      exposedPorts: ['80/tcp'],
      architecture: 'amd64',
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
    })
  })

  test('takes null for nothing, as writers in Go say it', () => {
    const nothing = {
      User: null,
      Env: null,
      Entrypoint: null,
      Cmd: null,
      Labels: null,
      Volumes: null,
      ExposedPorts: null,
    }
    const { config, diffIds } = parse(JSON.stringify({ rootfs: { type: 'layers', diff_ids: null }, config: nothing }))
    assert.deepEqual(diffIds, [])
    assert.deepEqual(config.env, [])
    assert.deepEqual(parse(JSON.stringify({ rootfs, config: null })).config.labels, {})
  })

  const refused: Record<string, unknown> = {
    'no rootfs': {},
    'another rootfs type': { rootfs: { ...rootfs, type: 'other' } },
    'a diff id that is no digest': { rootfs: { ...rootfs, diff_ids: ['sha256:../x'] } },
    'Entrypoint as text': { rootfs, config: { Entrypoint: '/bin/sh' } },
    'User as object': { rootfs, config: { User: {} } },
    'Cmd too long': { rootfs, config: { Cmd: Array.from({ length: 100_000 }, () => '') } },
    'NUL in a value': { rootfs, config: { Env: ['A=b\0c'] } },
    'a label that is no text': { rootfs, config: { Labels: { a: 1 } } },
  }
  for (const [name, value] of Object.entries(refused)) {
    test(`refuses ${name}`, () =>
      assert.throws(
        () => parse(JSON.stringify(value)),
        (error) => isKind(error, 'failed-precondition'),
      ))
  }

  test('names like __proto__ change nothing', () => {
    const evil = '{"__proto__":"x","constructor":"y","hasOwnProperty":"z"}'
    const { config } = parse(
      `{"rootfs":{"type":"layers","diff_ids":[]},"__proto__":{"polluted":1},"config":{"Labels":${evil},"Volumes":${evil}}}`,
    )
    assert.equal(Object.getPrototypeOf(config.labels), Object.prototype)
    assert.equal(config.labels.constructor, 'y')
    assert.equal('polluted' in {}, false)
    assert.equal('polluted' in config, false)
  })
})
