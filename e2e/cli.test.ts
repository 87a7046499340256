/** The command `cricket` apart from serving. */

import assert from 'node:assert/strict'
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { execa } from 'execa'
import { parse } from 'yaml'
import { CRICKET } from './cricket.ts'

/** Standard output, standard error and exit code of `cricket <args>`, run in `/`. */
async function cricket(args: string[], program = CRICKET) {
  const options = { cwd: '/', extendEnv: false, env: { PATH: '/usr/bin:/bin' }, reject: false } as const
  const { stdout, stderr, exitCode } = await execa(program, args, options)
  return { stdout, stderr, code: exitCode }
}

describe('cricket', () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ck-cli-'))
  })
  after(() => rm(dir, { recursive: true }))

  it('version says which Kubernetes it is locked to, for people and for programs', async () => {
    const plain = await cricket(['version'])
    assert.match(plain.stdout, /1\.36\.\d+/)
    const json: unknown = JSON.parse((await cricket(['version', '--json'])).stdout)
    assert.ok(json && typeof json === 'object' && 'version' in json)
    assert.match(String(json.version), /^1\.36\.\d+/)
  })

  it('works through a symbolic link', async () => {
    const link = join(dir, 'cricket')
    await symlink(CRICKET, link)
    assert.equal((await cricket(['version'], link)).stdout, (await cricket(['version'])).stdout)
  })

  it('config --default prints a configuration that it accepts', async () => {
    const { stdout } = await cricket(['config', '--default'])
    const path = join(dir, 'default.yaml')
    await writeFile(path, stdout)
    const read = await cricket(['config', '--config', path])
    assert.equal(read.stderr, '')
    const values: unknown = parse(read.stdout)
    assert.ok(values && typeof values === 'object' && 'root' in values && 'state' in values)
    assert.equal(values.root, '/var/lib/cricket')
    assert.equal(values.state, '/run/cricket')
  })

  it('config prints what file and flags make together', async () => {
    const path = join(dir, 'config.yaml')
    await writeFile(path, 'logLevel: debug\nnetwork:\n  configDir: /srv/cni\n')
    const { stdout } = await cricket(['config', '--config', path, '--root', '/srv/root', '--log-level', 'warn'])
    const values: unknown = parse(stdout)
    assert.ok(values && typeof values === 'object' && 'network' in values)
    assert.deepEqual(
      { ...values, network: values.network },
      { ...values, root: '/srv/root', logLevel: 'warn', network: { ...Object(values.network), configDir: '/srv/cni' } },
    )
  })

  it('config names file, line and key of what is wrong', async () => {
    const path = join(dir, 'wrong.yaml')
    await writeFile(path, 'root: /srv/root\nnetwork:\n  confDir: /srv/cni\n')
    const { stderr, code } = await cricket(['config', '--config', path])
    assert.notEqual(code, 0)
    assert.match(stderr, /wrong\.yaml/)
    assert.match(stderr, /\b3\b/)
    assert.match(stderr, /confDir/)
  })

  it('refuses words, flags and files that it does not know', async () => {
    for (const args of [['sing'], ['serve', '--loud'], ['config', '--config', join(dir, 'nothing.yaml')]]) {
      const { stderr, code } = await cricket(args)
      assert.notEqual(code, 0, args.join(' '))
      assert.match(stderr, /sing|loud|nothing\.yaml/)
    }
  })
})
