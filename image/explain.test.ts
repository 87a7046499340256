import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { explainReference } from './explain.ts'
import type { ImagesConfig } from './images-config.ts'
import { testConfig } from './testing/test-images.ts'

const SECRET = 'tOpSeCrEt'

/** What explain says, with the directory of the files left out. */
const explain = async (
  files: Record<string, string>,
  written: string,
  { namespace, ...more }: Partial<ImagesConfig> & { namespace?: string } = {},
): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'cricket-explain-'))
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(dir, name)), { recursive: true })
      await writeFile(join(dir, name), text)
    }
    const config: ImagesConfig = {
      ...testConfig,
      registriesConf: join(dir, 'registries.conf'),
      certsDirs: [dir],
      ...(files['policy.json'] !== undefined && {
        signatures: { ...testConfig.signatures, policyFile: join(dir, 'policy.json') },
      }),
      ...more,
      credentials: {
        ...testConfig.credentials,
        authFiles: [join(dir, 'auth.json')],
        namespaceAuthDir: join(dir, 'spaces'),
        ...more.credentials,
      },
    }
    const text = explainReference(config, written, namespace).replaceAll(`${dir}/`, '')
    assert.ok(!text.includes(SECRET), text)
    return text
  } finally {
    await rm(dir, { recursive: true })
  }
}

const encoded = Buffer.from(`user:${SECRET}`).toString('base64')
const stored = (...names: string[]): string =>
  JSON.stringify({ auths: Object.fromEntries(names.map((name) => [name, { auth: encoded }])) })

suite('cricket image explain', () => {
  test('says which signatures the policy wants, and what is wrong with it', async () => {
    const scopes = { 'r.example/team': [{ type: 'reject' }], 'r.example': [{ type: 'insecureAcceptAnything' }] }
    const policy = JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: scopes } })
    const told = await explain({ 'policy.json': policy }, 'r.example/team/app:1')
    assert.match(told, /^ {2}signatures: reject, by transports\.docker\."r\.example\/team" of "policy\.json"$/m)
    assert.doesNotMatch(await explain({ 'policy.json': policy }, 'r.example/other:1'), /signatures/)
    await assert.rejects(explain({ 'policy.json': '{}' }, 'r.example/app'), (error) =>
      isKind(error, 'failed-precondition'),
    )
  })

  test('of a reference about which nobody said anything', async () => {
    assert.equal(
      await explain({}, 'busybox'),
      `short name, completed by: default registry
docker.io/library/busybox:latest
  rule: nothing is configured for it
  1. https://registry-1.docker.io/v2/library/busybox
     registry
     credentials: the pod's pull secret if it has one
`,
    )
  })

  test('names rule, servers in order, and whose credentials', async () => {
    const text = await explain(
      {
        'registries.conf': `
          [[registry]]
          prefix = "quay.io/team"
          location = "harbor.example/team"
          [[registry.mirror]]
          location = "mirror.example:5000/cache"
          insecure = true
        `,
        'quay.io/hosts.toml': '[host."https://other.example"]',
        'auth.json': stored('mirror.example:5000', 'quay.io'),
        'spaces/blue.json': stored('harbor.example/team'),
      },
      'quay.io/team/app:2',
      { namespace: 'blue', proxies: { https: `http://user:${SECRET}@proxy.example:3128` } },
    )
    assert.equal(
      text,
      `quay.io/team/app:2
  rule: prefix "quay.io/team" in "registries.conf"
  not heard: "quay.io/hosts.toml"
  1. https://mirror.example:5000/v2/cache/app
     mirror, any certificate is good, proxy proxy.example:3128
     credentials: entry "mirror.example:5000" of "auth.json"
  2. http://mirror.example:5000/v2/cache/app
     mirror, only if the one before speaks no TLS
     credentials: entry "mirror.example:5000" of "auth.json"
  3. https://harbor.example/v2/team/app
     registry, proxy proxy.example:3128
     credentials: entry "harbor.example/team" of "spaces/blue.json"
`,
    )
  })

  test('of hosts.toml: what each server is for, header names without values, shared credentials', async () => {
    const text = await explain(
      {
        'docker.io/hosts.toml': `
          [host."https://one.example"]
          capabilities = ["pull"]
          [host."https://one.example".header]
          X-Key = "${SECRET}"
          [host."https://two.example/x"]
          skip_verify = true
        `,
        'auth.json': JSON.stringify({ credHelpers: { 'two.example': 'cloud' } }),
      },
      'docker.io/team/app',
      { credentials: { ...testConfig.credentials, shareWithMirrors: { 'docker.io': ['one.example'] } } },
    )
    assert.match(text, /rule: "docker\.io\/hosts\.toml"/)
    assert.match(
      text,
      /1\. https:\/\/one\.example\/v2\/team\/app\n +mirror, for content by digest only, headers X-Key, \?ns=docker\.io\n +credentials: the pod's pull secret if it has one\n/,
    )
    assert.match(
      text,
      /2\. https:\/\/two\.example\/x\/v2\/team\/app\n +mirror, any certificate is good, \?ns=docker\.io\n +credentials: none; the pod's pull secret is not shown to it/,
    )
    assert.match(text, /3\. https:\/\/registry-1\.docker\.io\/v2\/team\/app\n +registry\n/)
  })

  test('fails as a pull would: blocked, ambiguous, broken', async () => {
    const rejects = (conf: string, written: string, kind: Parameters<typeof isKind>[1]) =>
      assert.rejects(explain({ 'registries.conf': conf }, written), (error) => isKind(error, kind))
    await rejects('[[registry]]\nlocation = "docker.io"\nblocked = true', 'busybox', 'permission-denied')
    await rejects('unqualified-search-registries = ["a.example", "b.example"]', 'busybox', 'invalid-argument')
    await rejects('broken', 'busybox', 'failed-precondition')
    await rejects('', 'No Image', 'invalid-argument')
  })

  test('says warnings', async () => {
    assert.match(
      await explain({ 'registries.conf': 'typo = 1' }, 'a.example/x'),
      /warning: File ".*": key "typo" is unknown/,
    )
  })
})
