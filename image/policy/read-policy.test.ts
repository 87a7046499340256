import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { makeKey } from '../testing/signer.ts'
import { recordingLog } from '../testing/test-images.ts'
import { Policies } from './policies.ts'
import { readPolicy } from './read-policy.ts'

const accept = [{ type: 'insecureAcceptAnything' }]
const base64 = (text: string): string => Buffer.from(text).toString('base64')

suite('a signature policy', () => {
  let dir: string
  const key = makeKey()
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'cricket-policy-'))
    for (const name of ['key.pub', 'more.pub']) await writeFile(join(dir, name), key.pem)
  })
  after(() => rm(dir, { recursive: true }))

  const write = async (content: unknown, name = 'policy.json'): Promise<string> => {
    const file = join(dir, name)
    await writeFile(file, typeof content === 'string' ? content : JSON.stringify(content))
    return file
  }

  test('is read with its keys, wherever they are', async () => {
    const file = await write({
      default: [{ type: 'reject' }],
      transports: {
        docker: {
          '': accept,
          '*.example.com': [
            { type: 'sigstoreSigned', keyPath: join(dir, 'key.pub'), rekorPublicKeyDatas: [base64(key.pem)] },
          ],
          'quay.io': [
            {
              type: 'sigstoreSigned',
              keyDatas: [base64(key.pem), base64(key.pem)],
              signedIdentity: { type: 'matchRepository' },
            },
          ],
          'quay.io/team': [
            {
              type: 'sigstoreSigned',
              keyPaths: ['key.pub', 'more.pub'].map((name) => join(dir, name)),
              rekorPublicKeyPaths: [join(dir, 'more.pub')],
            },
          ],
        },
        'docker-archive': { '': accept },
      },
    })
    const policy = readPolicy(file)
    assert.deepEqual(new Set(policy.files), new Set([file, join(dir, 'key.pub'), join(dir, 'more.pub')]))
    const [wild] = policy.transports.get('docker')?.get('*.example.com') ?? []
    assert.ok(wild?.type === 'sigstoreSigned' && wild.signer.by === 'keys' && wild.rekorKeys.length === 1)
    assert.equal(wild.identity.type, 'matchRepoDigestOrExact')
    const [quay] = policy.transports.get('docker')?.get('quay.io') ?? []
    assert.ok(quay?.type === 'sigstoreSigned' && quay.signer.by === 'keys' && quay.signer.keys.length === 2)
    const [team] = policy.transports.get('docker')?.get('quay.io/team') ?? []
    assert.ok(team?.type === 'sigstoreSigned' && team.signer.by === 'keys' && team.signer.keys.length === 2)
    assert.equal(team.rekorKeys.length, 1)
  })

  const requirement = (fields: object) => ({ default: accept, transports: { docker: { 'quay.io': [fields] } } })
  const at = 'transports\\.docker\\."quay\\.io"\\.0'
  const sigstore = { type: 'sigstoreSigned' }
  const data = base64(key.pem)
  const fulcio = { caData: data, oidcIssuer: 'https://a.test', subjectEmail: 'a@b.test' }
  const invalid: [string, unknown, RegExp][] = [
    ['no JSON', '{', /not JSON/],
    ['a name twice', '{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}', /twice/],
    ['no default', { transports: {} }, /invalid: default: /],
    ['nothing required', { default: [] }, /default: must not be empty/],
    ['an unknown requirement', requirement({ type: 'signedBase' }), new RegExp(`${at}\\.type`)],
    [
      'a misspelt field',
      requirement({ ...sigstore, keyData: data, signedIdentitty: {} }),
      /unknown fields: "signedIdentitty"/,
    ],
    ['no key', requirement(sigstore), new RegExp(`${at}: must have exactly one of`)],
    ['two kinds of keys', requirement({ ...sigstore, keyData: data, keyPath: '/x' }), /exactly one of/],
    ['a key that is none', requirement({ ...sigstore, keyData: base64('x') }), new RegExp(`${at}\\.keyData: `)],
    [
      'a key that is missing',
      requirement({ ...sigstore, keyPath: '/nonexistent/k' }),
      new RegExp(`${at}\\.keyPath: "/nonex.*no such file`),
    ],
    [
      'a relative path',
      requirement({ ...sigstore, keyPath: 'k' }),
      new RegExp(`${at}\\.keyPath: must be an absolute path`),
    ],
    ['Fulcio without a log', requirement({ ...sigstore, fulcio }), /rekorPublicKey/],
    [
      'Fulcio without certificates',
      requirement({ ...sigstore, fulcio, rekorPublicKeyData: data }),
      new RegExp(`${at}\\.fulcio\\.caData: holds no cert`),
    ],
    [
      'an authority without subject',
      requirement({ ...sigstore, pki: { caRootsData: data } }),
      /subjectEmail or subjectHostname/,
    ],
    [
      'GPG keys that are none',
      requirement({ type: 'signedBy', keyType: 'GPGKeys', keyData: base64('x') }),
      /no OpenPGP public key/,
    ],
    [
      'another kind of GPG',
      requirement({ type: 'signedBy', keyType: 'signedByGPGKeys', keyData: data }),
      new RegExp(`${at}\\.keyType`),
    ],
    [
      'an unknown identity',
      requirement({ ...sigstore, keyData: data, signedIdentity: { type: 'x' } }),
      new RegExp(`${at}\\.signedIdentity`),
    ],
    [
      'a wildcard in the middle',
      { default: accept, transports: { docker: { 'a.*.test': accept } } },
      /"a\.\*\.test": a wildcard/,
    ],
  ]
  for (const [what, content, why] of invalid) {
    test(`with ${what} is none, and the field is said`, async () => {
      const file = await write(content, 'bad.json')
      assert.throws(
        () => readPolicy(file),
        (error) => isKind(error, 'failed-precondition') && why.test(error.message) && error.message.includes(file),
      )
    })
  }

  test('that breaks keeps its last good state; one that never was good lets nothing through', async () => {
    const file = await write({ default: [{ type: 'reject' }] }, 'live.json')
    const logged: string[] = []
    const policies = new Policies({ fallback: undefined, file, namespaceDir: undefined, log: recordingLog(logged) })
    policies.check()
    const first = policies.for(undefined)
    assert.equal(first.policy.default[0]?.type, 'reject')
    await write('{"default": oops', 'live.json')
    assert.deepEqual(policies.for('any').policy, first.policy)
    assert.match(policies.problems().join(), /live\.json/)
    await write({ default: accept }, 'live.json')
    assert.equal(policies.for(undefined).policy.default[0]?.type, 'insecureAcceptAnything')
    assert.notEqual(policies.for(undefined).version, first.version)
    const never = new Policies({
      fallback: undefined,
      file: join(dir, 'absent.json'),
      namespaceDir: undefined,
      log: recordingLog([]),
    })
    assert.throws(() => never.check(), /absent\.json/)
    assert.throws(
      () => never.for(undefined),
      (error) => isKind(error, 'failed-precondition'),
    )
  })

  test('in the usual place counts where none is set, if it is there', async () => {
    const fallback = join(dir, 'usual.json')
    const policies = new Policies({ file: undefined, fallback, namespaceDir: undefined, log: recordingLog([]) })
    policies.check()
    assert.equal(policies.for(undefined).policy.default[0]?.type, 'insecureAcceptAnything')
    await write({ default: [{ type: 'reject' }] }, 'usual.json')
    assert.equal(policies.for(undefined).policy.default[0]?.type, 'reject')
  })

  test('of a namespace stands in place of the node’s, and only files of that directory are read', async () => {
    const file = await write({ default: accept }, 'node.json')
    const namespaceDir = await mkdtemp(join(dir, 'ns-'))
    await writeFile(join(namespaceDir, 'prod.json'), JSON.stringify({ default: [{ type: 'reject' }] }))
    const policies = new Policies({ fallback: undefined, file, namespaceDir, log: recordingLog([]) })
    policies.check()
    const first = (namespace?: string) => policies.for(namespace).policy.default[0]?.type
    assert.deepEqual(
      [first('prod'), first('dev'), first()],
      ['reject', 'insecureAcceptAnything', 'insecureAcceptAnything'],
    )
    for (const name of ['../node', 'a/b', '.', 'PROD', 'x'.repeat(64)]) {
      assert.throws(
        () => policies.for(name),
        (error) => isKind(error, 'invalid-argument'),
        name,
      )
    }
    await writeFile(join(namespaceDir, 'broken.json'), '{}')
    assert.throws(
      () => new Policies({ fallback: undefined, file, namespaceDir, log: recordingLog([]) }).check(),
      /broken\.json.*default/,
    )
  })
})
