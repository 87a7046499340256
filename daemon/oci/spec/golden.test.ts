/** Requests and the config.json they give. `CRICKET_UPDATE_GOLDEN=1` writes what the builder makes; read the diff then. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { containerSpec } from './container-spec.ts'
import { sandboxSpec } from './sandbox-spec.ts'
import { plainHost, sandboxConfig, specInput } from './testing/spec-case.ts'

const DIRECTORY = join(import.meta.dirname, 'testdata')
const isUpdate = process.env.CRICKET_UPDATE_GOLDEN === '1'

const compare = (directory: string, made: unknown): void => {
  const path = join(directory, 'config.json')
  const text = `${JSON.stringify(made, undefined, 2)}\n`
  if (isUpdate) writeFileSync(path, text)
  assert.deepEqual(JSON.parse(text), JSON.parse(readFileSync(path, 'utf8')))
}

for (const name of readdirSync(DIRECTORY)) {
  if (name === 'sandbox-init') continue
  test(`containerSpec() of testdata/${name}`, () => {
    const directory = join(DIRECTORY, name)
    const request = JSON.parse(readFileSync(join(directory, 'request.json'), 'utf8'))
    const { spec, ...rest } = containerSpec(specInput(request))
    compare(directory, { ...spec, result: rest })
  })
}

test('sandboxSpec() of testdata/sandbox-init', () => {
  const directory = join(DIRECTORY, 'sandbox-init')
  const { spec } = sandboxSpec({
    sandboxId: 'd'.repeat(64),
    sandbox: sandboxConfig(),
    host: plainHost,
    rootfs: '/run/cricket/sandboxes/d/init/rootfs',
    initPath: '/usr/bin/catatonit',
    pins: { net: '/run/ns/net', ipc: '/run/ns/ipc', uts: '/run/ns/uts' },
    cgroupsPath: '/kubepods/pod1/d',
  })
  compare(directory, spec)
})
