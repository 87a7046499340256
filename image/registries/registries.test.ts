import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseReference } from '../reference.ts'
import { recordingLog } from '../testing/test-images.ts'
import { Registries } from './registries.ts'

const inDirectory = async (work: (dir: string, open: () => Registries, logged: string[]) => Promise<void>) => {
  const dir = await mkdtemp(join(tmpdir(), 'cricket-registries-'))
  const logged: string[] = []
  const log = recordingLog(logged)
  const open = () =>
    new Registries({ confFile: join(dir, 'registries.conf'), certsDirs: [dir], insecureRegistries: [], log })
  try {
    await work(dir, open, logged)
  } finally {
    await rm(dir, { recursive: true })
  }
}

const first = (registries: Registries, reference: string) =>
  registries.route(parseReference(reference)).endpoints[0]?.name
const mirrorTo = (name: string) => `[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "${name}"\n`

suite('registry configuration of a running daemon', () => {
  test('follows its files, also ones that come and go', () =>
    inDirectory(async (dir, open) => {
      const registries = open()
      assert.equal(first(registries, 'a.example/x'), 'a.example')
      await writeFile(join(dir, 'registries.conf'), mirrorTo('one.example'))
      assert.equal(first(registries, 'a.example/x'), 'one.example')
      await mkdir(join(dir, 'registries.conf.d'))
      await writeFile(join(dir, 'registries.conf.d/x.conf'), mirrorTo('two.example'))
      assert.equal(first(registries, 'a.example/x'), 'two.example')
      await rm(join(dir, 'registries.conf.d/x.conf'))
      assert.equal(first(registries, 'a.example/x'), 'one.example')
      await mkdir(join(dir, 'b.example'))
      await writeFile(join(dir, 'b.example/hosts.toml'), '[host."https://three.example"]')
      assert.equal(first(registries, 'b.example/x'), 'three.example')
      await writeFile(join(dir, 'b.example/hosts.toml'), '[host."https://four.example"]')
      assert.equal(first(registries, 'b.example/x'), 'four.example')
    }))

  test('keeps what was good when a file is broken, says so, and recovers', () =>
    inDirectory(async (dir, open, logged) => {
      await writeFile(join(dir, 'registries.conf'), mirrorTo('one.example'))
      const registries = open()
      await writeFile(join(dir, 'registries.conf'), '[[registry]]\nlocation = 7777')
      assert.equal(first(registries, 'a.example/x'), 'one.example')
      assert.equal(first(registries, 'a.example/x'), 'one.example')
      assert.match(registries.state().problems.join(), /registries\.conf": key "registry\[0\]\.location" is 7777/)
      assert.equal(logged.filter((line) => line.includes('is broken')).length, 1, 'said once')
      await writeFile(join(dir, 'registries.conf'), mirrorTo('fixed.example'))
      assert.equal(first(registries, 'a.example/x'), 'fixed.example')
      assert.deepEqual(registries.state().problems, [])
    }))

  test('the same for a hosts.toml', () =>
    inDirectory(async (dir, open) => {
      await mkdir(join(dir, 'b.example'))
      const file = join(dir, 'b.example/hosts.toml')
      await writeFile(file, '[host."https://one.example"]')
      const registries = open()
      assert.equal(first(registries, 'b.example/x'), 'one.example')
      await writeFile(file, 'not toml')
      assert.equal(first(registries, 'b.example/x'), 'one.example')
      assert.equal(registries.state().problems.length, 1)
    }))

  test('lets nothing through that never was good: it may be what blocks a registry', () =>
    inDirectory(async (dir, open) => {
      await writeFile(join(dir, 'registries.conf'), 'nonsense')
      const registries = open()
      const refused = (error: unknown) => isKind(error, 'failed-precondition') && error.message.includes('line 1')
      assert.throws(() => first(registries, 'a.example/x'), refused)
      assert.throws(() => registries.candidates('x'), refused)
      assert.equal(registries.knownCandidates('x')[0]?.domain, 'docker.io', 'what is here already is found')
      await writeFile(join(dir, 'registries.conf'), '')
      assert.equal(first(registries, 'a.example/x'), 'a.example')
    }))
})
