import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseReference } from '../reference.ts'
import { matchRegistry } from './match-registry.ts'
import { planRoute } from './plan-route.ts'
import { type RegistriesConf, readRegistriesConf } from './registries-conf.ts'
import { candidatesOf } from './short-names.ts'

const read = async (main: string, dropIns: Record<string, string> = {}): Promise<RegistriesConf> => {
  const dir = await mkdtemp(join(tmpdir(), 'cricket-conf-'))
  try {
    await writeFile(join(dir, 'registries.conf'), main)
    await mkdir(join(dir, 'registries.conf.d'))
    for (const [name, text] of Object.entries(dropIns)) await writeFile(join(dir, 'registries.conf.d', name), text)
    return readRegistriesConf(join(dir, 'registries.conf'))
  } finally {
    await rm(dir, { recursive: true })
  }
}

/** "https://host/v2 repository", in order. */
const endpoints = (conf: RegistriesConf, reference: string): string[] =>
  planRoute({ conf, certsDirs: [], insecureRegistries: [] }, parseReference(reference)).endpoints.map(
    ({ origin, prefix, repository }) => `${origin}${prefix} ${repository}`,
  )

const DIGEST = `sha256:${'a'.repeat(64)}`

suite('registries.conf: which entry speaks', () => {
  test('the longest prefix, at the end of a part of the name', async () => {
    const conf = await read(`
      [[registry]]
      location = "quay.io"
      [[registry]]
      location = "quay.io/team"
      [[registry]]
      prefix = "quay.io/team/app:v1"
      location = "pinned.example/app"
      [[registry]]
      prefix = "*.example.com"
      [[registry]]
      location = "a.example.com"
    `)
    const prefixOf = (name: string) => matchRegistry(conf, parseReference(name))?.prefix
    assert.equal(prefixOf('quay.io/other/app'), 'quay.io')
    assert.equal(prefixOf('quay.io/team/app'), 'quay.io/team')
    assert.equal(prefixOf('quay.io/teams/app'), 'quay.io')
    assert.equal(prefixOf('quay.io/team/app:v1'), 'quay.io/team/app:v1')
    assert.equal(prefixOf('quay.io/team/app:v10'), 'quay.io/team')
    assert.equal(prefixOf(`quay.io/team/app@${DIGEST}`), 'quay.io/team')
    assert.equal(prefixOf('b.example.com/x'), '*.example.com')
    assert.equal(prefixOf('b.c.example.com:5000/x'), '*.example.com')
    assert.equal(prefixOf('a.example.com/x'), 'a.example.com', 'written out wins over the wildcard')
    assert.equal(prefixOf('example.com/x'), undefined)
    assert.equal(prefixOf('b.example.community/x'), undefined)
    assert.equal(prefixOf('evil.org/b.example.com/x'), undefined, 'a wildcard is about hosts')
    assert.equal(prefixOf('quay.ioo/x'), undefined)
  })

  test('a blocked registry, also with a port', async () => {
    const conf = await read(`
      [[registry]]
      location = "docker.io"
      blocked = true
      [[registry]]
      location = "docker.io/library"
    `)
    assert.throws(
      () => endpoints(conf, 'team/app'),
      (error) =>
        isKind(error, 'permission-denied') &&
        /blocked: prefix "docker\.io" in ".*registries\.conf"/.test(error.message),
    )
    assert.throws(
      () => endpoints(conf, 'docker.io:443/team/app'),
      (error) => isKind(error, 'permission-denied'),
    )
    assert.deepEqual(endpoints(conf, 'busybox'), ['https://registry-1.docker.io/v2 library/busybox'])
  })
})

suite('registries.conf: where it leads', () => {
  test('mirrors first, then the location, with what follows the prefix', async () => {
    const conf = await read(`
      [[registry]]
      prefix = "docker.io/library"
      location = "harbor.example/hub"
      [[registry.mirror]]
      location = "mirror.example:5000/a/b"
      [[registry.mirror]]
      location = "plain.example"
      insecure = true
    `)
    assert.deepEqual(endpoints(conf, 'busybox:1'), [
      'https://mirror.example:5000/v2 a/b/busybox',
      'https://plain.example/v2 busybox',
      'http://plain.example/v2 busybox',
      'https://harbor.example/v2 hub/busybox',
    ])
  })

  test('insecure is TLS without checks first, and without TLS only beside it', async () => {
    const conf = await read('[[registry]]\nlocation = "old.example:5000"\ninsecure = true')
    const route = planRoute({ conf, certsDirs: [], insecureRegistries: [] }, parseReference('old.example:5000/x'))
    assert.deepEqual(
      route.endpoints.map(({ origin, tls, isPlainTwin }) => [origin, tls.skipVerify, isPlainTwin]),
      [
        ['https://old.example:5000', true, false],
        ['http://old.example:5000', false, true],
      ],
    )
  })

  test('a wildcard without location rewrites nothing, with one the host', async () => {
    const conf = await read(`
      [[registry]]
      prefix = "*.a.example"
      [[registry.mirror]]
      location = "m.example/cache"
      [[registry]]
      prefix = "*.b.example"
      location = "m.example/b"
    `)
    assert.deepEqual(endpoints(conf, 'x.a.example/team/app'), [
      'https://m.example/v2 cache/team/app',
      'https://x.a.example/v2 team/app',
    ])
    assert.deepEqual(endpoints(conf, 'x.b.example/team/app'), ['https://m.example/v2 b/team/app'])
  })

  test('mirrors for digests or tags only', async () => {
    const conf = await read(`
      [[registry]]
      location = "a.example"
      mirror-by-digest-only = true
      [[registry.mirror]]
      location = "m.example"
      [[registry]]
      location = "b.example"
      [[registry.mirror]]
      location = "digests.example"
      pull-from-mirror = "digest-only"
      [[registry.mirror]]
      location = "tags.example"
      pull-from-mirror = "tag-only"
      [[registry.mirror]]
      location = "all.example"
      pull-from-mirror = "all"
    `)
    const hosts = (name: string) => endpoints(conf, name).map((text) => new URL(text.split(' ')[0] ?? '').host)
    assert.deepEqual(hosts('a.example/x:1'), ['a.example'])
    assert.deepEqual(hosts(`a.example/x@${DIGEST}`), ['m.example', 'a.example'])
    assert.deepEqual(hosts('b.example/x:1'), ['tags.example', 'all.example', 'b.example'])
    assert.deepEqual(hosts(`b.example/x:1@${DIGEST}`), ['digests.example', 'all.example', 'b.example'])
  })

  test('a rewriting that gives no image name is refused by its rule', async () => {
    const conf = await read('[[registry]]\nprefix = "a.example"\nlocation = "b.example/path"')
    assert.throws(
      () => endpoints(conf, 'a.example:5000/x'),
      (error) => isKind(error, 'failed-precondition') && error.message.includes('prefix "a.example"'),
    )
  })

  test('loopback follows the file: TLS unless it says insecure', async () => {
    const conf = await read(`
      [[registry]]
      location = "127.0.0.1:5000"
      [[registry]]
      location = "localhost:5001"
      insecure = true
    `)
    assert.deepEqual(endpoints(conf, '127.0.0.1:5000/x'), ['https://127.0.0.1:5000/v2 x'])
    assert.deepEqual(endpoints(conf, 'localhost:5001/x'), ['http://localhost:5001/v2 x'])
  })
})

suite('registries.conf: drop-ins', () => {
  test('replace by name, in order', async () => {
    const conf = await read(
      `
      unqualified-search-registries = ["one.example"]
      short-name-mode = "disabled"
      credential-helpers = ["containers-auth.json", "vault"]
      [[registry]]
      location = "a.example"
      blocked = true
      [aliases]
      "app" = "a.example/app"
      "gone" = "a.example/gone"
    `,
      {
        '10.conf': '[[registry]]\nlocation = "a.example"\n[[registry.mirror]]\nlocation = "m.example"',
        '20.conf': 'unqualified-search-registries = ["two.example"]\n[aliases]\n"gone" = ""\n"new" = "b.example/new"',
        'ignored.txt': 'nonsense',
        '.hidden.conf': 'nonsense',
      },
    )
    assert.deepEqual(endpoints(conf, 'a.example/x'), ['https://m.example/v2 x', 'https://a.example/v2 x'])
    assert.deepEqual(conf.searchRegistries, ['two.example'])
    assert.equal(conf.shortNameMode, 'disabled')
    assert.deepEqual(conf.credentialHelpers, ['containers-auth.json', 'vault'])
    assert.deepEqual([...conf.aliases.keys()], ['app', 'new'])
    assert.equal(conf.files.length, 3)
  })

  test('nothing there is an empty configuration', () => {
    assert.deepEqual(readRegistriesConf('/nonexistent/registries.conf').registries, [])
  })
})

suite('registries.conf: what is wrong is said with file, key and value', () => {
  const bad: [text: string, says: RegExp][] = [
    ['[[registry]]\nlocation = 7', /registries\.conf": key "registry\[0\]\.location" is 7: /],
    [
      '[[registry]]\nlocation = "https://a.example"',
      /key "registry\[0\]\.location" is "https:\/\/a\.example": must be/,
    ],
    ['[[registry]]\nprefix = "a.example"', /key "registry\[0\]\.location" is missing: needs a "location"/],
    ['[[registry]]\nblocked = true', /key "registry\[0\]" is .*: needs a "location" or a "prefix"/],
    [
      '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = ""',
      /registry\[0\]\.mirror\[0\]\.location" is ""/,
    ],
    [
      '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = "m.b"\npull-from-mirror = "never"',
      /registry\[0\]\.mirror\[0\]\.pull-from-mirror" is "never"/,
    ],
    [
      '[[registry]]\nlocation = "a.b"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.b"\npull-from-mirror = "all"',
      /key "registry\[0\]\.mirror-by-digest-only" is true: cannot go together/,
    ],
    ['short-name-mode = "sometimes"', /key "short-name-mode" is "sometimes"/],
    ['[registries.search]\nregistries = ["a"]', /key "registries" is .*: is the old format/],
    ['[aliases]\n"a.example/x:1" = "b.example/x"', /aliases/],
    ['a = [', /line 1, column \d+: /],
  ]
  for (const [text, says] of bad) {
    test(text.replaceAll('\n', ' '), async () => {
      await assert.rejects(
        read(text),
        (error) => (isKind(error, 'failed-precondition') && says.test(error.message)) || assert.fail(String(error)),
      )
    })
  }

  test('unknown keys and double prefixes are warnings', async () => {
    const conf = await read(
      'blockd = true\n[[registry]]\nlocation = "a.b"\nmirrors = []\n[[registry]]\nlocation = "a.b"\nblocked = true',
    )
    assert.equal(conf.warnings.length, 3)
    for (const says of [/"blockd" is unknown/, /"registry\[0\]\.mirrors" is unknown/, /prefix "a\.b" twice/])
      assert.ok(
        conf.warnings.some((warning) => says.test(warning)),
        String(says),
      )
    assert.deepEqual(endpoints(conf, 'a.b/x'), ['https://a.b/v2 x'])
  })
})

suite('short names', () => {
  const names = (conf: RegistriesConf, text: string): string[] =>
    candidatesOf(conf, text).references.map(({ domain, path, tag, digest }) => `${domain}/${path} ${digest ?? tag}`)

  test('mean Docker Hub when nobody says otherwise', async () => {
    assert.deepEqual(names(await read(''), 'busybox'), ['docker.io/library/busybox latest'])
  })

  test('aliases come first and keep tag and digest', async () => {
    const conf = await read(
      'unqualified-search-registries = ["a.example", "b.example"]\n[aliases]\n"app" = "c.example/team/app"',
    )
    assert.deepEqual(names(conf, 'app:2'), ['c.example/team/app 2'])
    assert.deepEqual(names(conf, `app@${DIGEST}`), [`c.example/team/app ${DIGEST}`])
  })

  test('one search registry is no ambiguity, none is a refusal', async () => {
    assert.deepEqual(names(await read('unqualified-search-registries = ["a.example"]'), 'team/app'), [
      'a.example/team/app latest',
    ])
    const none = await read('unqualified-search-registries = []')
    assert.throws(
      () => names(none, 'app'),
      (error) => isKind(error, 'invalid-argument'),
    )
    assert.deepEqual(names(none, 'docker.io/app'), ['docker.io/library/app latest'])
  })

  for (const [mode, refused] of [
    ['', true],
    ['short-name-mode = "enforcing"', true],
    ['short-name-mode = "permissive"', false],
    ['short-name-mode = "disabled"', false],
  ] as const) {
    test(`several search registries, ${mode || 'no mode'}: ${refused ? 'refused' : 'tried in order'}`, async () => {
      const conf = await read(`unqualified-search-registries = ["a.example", "docker.io"]\n${mode}`)
      if (refused) {
        assert.throws(
          () => names(conf, 'app'),
          (error) => isKind(error, 'invalid-argument') && /ambiguous.*a\.example, docker\.io/.test(error.message),
        )
      } else assert.deepEqual(names(conf, 'app'), ['a.example/app latest', 'docker.io/library/app latest'])
    })
  }

  test('full names and nonsense are not touched', async () => {
    const conf = await read('unqualified-search-registries = ["a.example"]')
    assert.deepEqual(names(conf, 'localhost/app'), ['localhost/app latest'])
    for (const text of ['', 'UPPER', 'a'.repeat(64), 'app:', 'a//b']) {
      assert.throws(
        () => names(conf, text),
        (error) => isKind(error, 'invalid-argument'),
        text,
      )
    }
  })
})
