import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseReference } from '../reference.ts'
import type { Credentials, RegistryAuth } from './credentials.ts'
import { type CredentialSettings, credentialPlaces, credentialSource } from './find-credentials.ts'

const { signal } = new AbortController()
const MARKER = 'tOpSeCrEt'
const encoded = (user: string): string => Buffer.from(`${user}:${MARKER}`).toString('base64')
const stored = (...names: string[]) => ({
  auths: Object.fromEntries(names.map((name) => [name, { auth: encoded(`user of ${name.replaceAll(':', '_')}`) }])),
})

interface Asked {
  readonly image?: string
  readonly server?: string
  readonly repository?: string
  readonly auth?: RegistryAuth
  readonly namespace?: string
  readonly configuredHelpers?: readonly string[]
}

/** A directory with these files and a way to ask. */
class Rig implements AsyncDisposable {
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  static async make(files: Record<string, unknown> = {}): Promise<Rig> {
    const rig = new Rig(await mkdtemp(join(tmpdir(), 'cricket-credentials-')))
    for (const [name, content] of Object.entries(files)) {
      const text = typeof content === 'string' ? content : JSON.stringify(content)
      await writeFile(join(rig.dir, name), text)
      if (name.startsWith('docker-credential-')) await chmod(join(rig.dir, name), 0o755)
    }
    return rig
  }

  settings(shareWithMirrors: Record<string, string[]> = {}): CredentialSettings {
    return {
      authFiles: [join(this.dir, 'auth.json'), join(this.dir, 'second.json')],
      namespaceAuthDir: this.dir,
      shareWithMirrors,
      helpers: { dirs: [this.dir], deadlineMs: 2_000, env: { HOME: '/home/x', SECRET: MARKER } },
    }
  }

  question({ image = 'quay.io/team/app:1', ...asked }: Asked) {
    const reference = parseReference(image)
    const server = asked.server ?? reference.domain
    return { written: image, reference, repository: reference.path, configuredHelpers: undefined, ...asked, server }
  }

  get(asked: Asked, share?: Record<string, string[]>): Promise<Credentials> {
    return credentialSource(this.settings(share), this.question(asked)).get(signal)
  }

  async user(asked: Asked, share?: Record<string, string[]>): Promise<string> {
    const found = await this.get(asked, share)
    return found.kind === 'basic' ? found.username : found.kind
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true })
  }
}

suite('credentials of the pod', () => {
  const auth = { username: 'pod', password: MARKER }

  test('are for the registry of its image', async () => {
    await using rig = await Rig.make({ 'auth.json': stored('quay.io', 'm.example') })
    assert.equal(await rig.user({ auth }), 'pod')
    assert.equal(await rig.user({ auth, server: 'm.example' }), 'user of m.example', 'a mirror has its own')
    assert.equal(await rig.user({ auth, server: 'n.example' }), 'anonymous')
    assert.equal(await rig.user({ auth: { ...auth, serverAddress: 'other.example' } }), 'user of quay.io')
  })

  test('go to a mirror by rule, or when they are for it', async () => {
    await using rig = await Rig.make()
    const share = { 'quay.io': ['m.example:5000'] }
    assert.equal(await rig.user({ auth, server: 'm.example:5000' }, share), 'pod')
    assert.equal(await rig.user({ auth, server: 'm.example' }, share), 'anonymous')
    assert.equal(await rig.user({ auth, server: 'm.example:5000', image: 'busybox' }, share), 'anonymous')
    assert.equal(
      await rig.user({ auth: { ...auth, serverAddress: 'https://m.example/v2/' }, server: 'm.example' }),
      'pod',
    )
  })

  test('rules are no prototype', async () => {
    await using rig = await Rig.make()
    assert.equal(await rig.user({ auth, image: 'Constructor/x', server: 'm.example' }), 'anonymous')
  })
})

suite('auth files', () => {
  test('the most specific entry, however it is spelled', async () => {
    await using rig = await Rig.make({
      'auth.json': stored(
        'quay.io',
        'quay.io/team',
        'quay.io/team/app',
        'https://old.example/v2/',
        'host.example:5000',
      ),
      'second.json': stored('https://index.docker.io/v1/', 'quay.io/team/last'),
    })
    const user = (image: string) => rig.user({ image })
    assert.equal(await user('quay.io/team/app'), 'user of quay.io/team/app')
    assert.equal(await user('quay.io/team/app2'), 'user of quay.io/team')
    assert.equal(await user('quay.io/teams/app'), 'user of quay.io')
    assert.equal(await user('quay.io/team/last'), 'user of quay.io/team', 'the first file that has any')
    assert.equal(await user('old.example/x'), 'user of https_//old.example/v2/')
    assert.equal(await user('host.example:5000/x'), 'user of host.example_5000')
    assert.equal(await user('host.example/x'), 'anonymous')
    assert.equal(await user('busybox'), 'user of https_//index.docker.io/v1/')
  })

  test('an entry for a repository is for no other', async () => {
    await using rig = await Rig.make({ 'auth.json': stored('quay.io/team/app') })
    assert.equal(await rig.user({ image: 'quay.io/other' }), 'anonymous')
  })

  test('tokens in them', async () => {
    await using rig = await Rig.make({
      'auth.json': {
        auths: { 'quay.io': { auth: encoded('x'), identitytoken: 'idt' }, 'r.example': { registrytoken: 'rt' } },
      },
    })
    assert.deepEqual(await rig.get({}), { kind: 'refresh', token: 'idt' })
    assert.deepEqual(await rig.get({ image: 'r.example/x' }), { kind: 'bearer', token: 'rt' })
  })

  test('of a namespace come first, by image and then for all', async () => {
    const hash = createHash('sha256').update('quay.io/team/app:1').digest('hex')
    await using rig = await Rig.make({
      'auth.json': stored('quay.io'),
      'blue.json': { auths: { 'quay.io': { auth: encoded('blue') } } },
      [`blue-${hash}.json`]: { auths: { 'quay.io': { auth: encoded('blue app') } } },
    })
    assert.equal(await rig.user({ namespace: 'blue' }), 'blue app')
    assert.equal(await rig.user({ namespace: 'blue', image: 'quay.io/x' }), 'blue')
    assert.equal(await rig.user({ namespace: 'red' }), 'user of quay.io')
    assert.equal(await rig.user({ namespace: 'x/../blue' }), 'user of quay.io')
  })

  for (const content of [
    `{"auths": {"quay.io": "${MARKER}"}}`,
    `{ ${MARKER}`,
    { auths: { 'quay.io': { auth: MARKER } } },
  ]) {
    test(`a broken one is named, not shown: ${JSON.stringify(content).slice(0, 40)}`, async () => {
      await using rig = await Rig.make({ 'auth.json': content })
      await assert.rejects(rig.get({}), (error) => {
        assert.ok(isKind(error, 'failed-precondition') && error.message.includes(`${rig.dir}/auth.json`), String(error))
        assert.ok(!error.message.includes(MARKER))
        return true
      })
    })
  }
})

suite('credential helpers', () => {
  const helper = (body: string) => `#!/bin/sh\nread server\n${body}\n`
  const good = helper(
    `echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"for $server $1\\",\\"Secret\\":\\"${MARKER}\\"}"`,
  )
  const using = (name: string, more: object = {}) => ({ credHelpers: { 'quay.io': name }, ...more })

  test('by registry, before entries; a store after them', async () => {
    await using rig = await Rig.make({
      'docker-credential-one': good,
      'auth.json': using('one', { ...stored('quay.io', 'r.example'), credsStore: 'one' }),
    })
    assert.equal(await rig.user({}), 'for quay.io get')
    assert.equal(await rig.user({ image: 'r.example/x' }), 'user of r.example')
    assert.equal(await rig.user({ image: 'other.example:5000/x' }), 'for other.example:5000 get')
    assert.equal(await rig.user({ image: 'busybox' }), 'for https://index.docker.io/v1/ get')
  })

  test('named by registries.conf, in their order', async () => {
    await using rig = await Rig.make({ 'docker-credential-one': good, 'auth.json': stored('quay.io') })
    assert.equal(await rig.user({ configuredHelpers: ['one', 'containers-auth.json'] }), 'for quay.io get')
    assert.equal(await rig.user({ configuredHelpers: ['containers-auth.json', 'one'] }), 'user of quay.io')
  })

  test('an identity token, and nothing', async () => {
    await using rig = await Rig.make({
      'docker-credential-token': helper('echo \'{"Username":"<token>","Secret":"refresh me"}\''),
      'docker-credential-empty': helper('echo "credentials not found in native keychain"; exit 1'),
      'auth.json': using('token'),
      'second.json': stored('quay.io'),
    })
    assert.deepEqual(await rig.get({}), { kind: 'refresh', token: 'refresh me' })
    await writeFile(join(rig.dir, 'auth.json'), JSON.stringify(using('empty')))
    assert.equal(await rig.user({}), 'user of quay.io', 'the next place')
  })

  test('get no environment but what they need', async () => {
    await using rig = await Rig.make({
      'docker-credential-env': helper('echo "{\\"Username\\":\\"$HOME $SECRET.\\",\\"Secret\\":\\"x\\"}"'),
      'auth.json': using('env'),
    })
    assert.equal(await rig.user({}), '/home/x .')
  })

  const bad: Record<string, string> = {
    fails: helper(`echo ${MARKER}; echo ${MARKER} >&2; exit 3`),
    hangs: helper('sleep 60'),
    'answers nonsense': helper(`echo '{"${MARKER}": 1}'`),
    'answers endlessly': helper('yes'),
  }
  for (const [name, program] of Object.entries(bad)) {
    test(`one that ${name} is named and its output is not shown`, async () => {
      await using rig = await Rig.make({ 'docker-credential-bad': program, 'auth.json': using('bad') })
      await assert.rejects(rig.get({}), (error) => {
        assert.ok(
          isKind(error, 'permission-denied') && error.message.includes('"docker-credential-bad"'),
          String(error),
        )
        assert.ok(!error.message.includes(MARKER))
        return true
      })
    })
  }

  test('names that are paths, or of nobody, are refused', async () => {
    for (const name of ['../../bin/sh', 'x/../evil', 'a/b', '', 'nobody']) {
      await using rig = await Rig.make({ 'auth.json': using(name), evil: good })
      await chmod(join(rig.dir, 'evil'), 0o755)
      await mkdir(join(rig.dir, 'docker-credential-x'))
      await assert.rejects(rig.get({}), (error) => isKind(error, 'permission-denied'), name)
    }
  })

  test('are not run to list the places', async () => {
    await using rig = await Rig.make({ 'docker-credential-one': good, 'auth.json': using('one', stored('quay.io')) })
    const places = credentialPlaces(rig.settings(), rig.question({}))
    assert.deepEqual(
      places.map(({ from }) => from.replaceAll(rig.dir, '')),
      ['helper "docker-credential-one", named by "/auth.json"', 'entry "quay.io" of "/auth.json"'],
    )
  })
})
