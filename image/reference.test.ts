import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { canonical, familiar, isShortName, parseReference, repositoryOf } from './reference.ts'

const digest = `sha256:${'a'.repeat(64)}`

suite('image reference', () => {
  const accepted: [text: string, canonicalForm: string, familiarForm: string][] = [
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
    ['team/app', 'docker.io/team/app:latest', 'team/app:latest'],
    ['library/team/app', 'docker.io/library/team/app:latest', 'library/team/app:latest'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/library/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['localhost/app', 'localhost/app:latest', 'localhost/app:latest'],
    ['localhost:5000/app', 'localhost:5000/app:latest', 'localhost:5000/app:latest'],
    ['localhost:5000', 'docker.io/library/localhost:5000', 'localhost:5000'],
    ['127.0.0.1:5000/a/b:t', '127.0.0.1:5000/a/b:t', '127.0.0.1:5000/a/b:t'],
    ['[::1]:5000/app', '[::1]:5000/app:latest', '[::1]:5000/app:latest'],
    ['REGISTRY.example/app', 'registry.example/app:latest', 'registry.example/app:latest'],
    [`busybox@${digest}`, `docker.io/library/busybox@${digest}`, `busybox@${digest}`],
    [`r.example/a:tag@${digest}`, `r.example/a@${digest}`, `r.example/a@${digest}`],
    ['r.example/a__b/c-d.e--f:T_1', 'r.example/a__b/c-d.e--f:T_1', 'r.example/a__b/c-d.e--f:T_1'],
  ]
  for (const [text, canonicalForm, familiarForm] of accepted) {
    test(`reads ${text}`, () => {
      const reference = parseReference(text)
      assert.equal(canonical(reference), canonicalForm)
      assert.equal(familiar(reference), familiarForm)
      assert.equal(canonical(parseReference(canonicalForm)), canonicalForm)
    })
  }

  test('keeps the tag beside a digest', () => {
    const reference = parseReference(`app:1@${digest}`)
    assert.equal(reference.tag, '1')
    assert.equal(reference.digest, digest)
    assert.equal(repositoryOf(reference), 'docker.io/library/app')
  })

  const refused = [
    '',
    ' ',
    'Busybox',
    'busybox:',
    'busybox:-x',
    `busybox:${'t'.repeat(129)}`,
    '/busybox',
    'a//b',
    'a/',
    'a/b:c:d',
    'user:pass@host/x',
    'host:0/x',
    'host:99999/x',
    'host:5000x/y',
    'localhost./x',
    'bücher.example/x',
    'a b',
    'a\nb',
    'a@sha256:abc',
    `a@${digest.toUpperCase()}`,
    `a@${digest}@${digest}`,
    `a@md5:${'a'.repeat(32)}`,
    'a@sha256:../../etc',
    'https://host/x',
    '../x',
    'host/../x',
    'a'.repeat(64),
    'x'.repeat(600),
    `${'a/'.repeat(200)}a`,
  ]
  for (const text of refused) {
    test(`refuses ${JSON.stringify(text.slice(0, 40))}`, () => {
      assert.throws(
        () => parseReference(text),
        (error) => isKind(error, 'invalid-argument'),
      )
    })
  }

  test('never needs long to refuse', () => {
    for (const text of ['a'.repeat(100_000), 'a/'.repeat(10_000), `${'a-'.repeat(250)}!`, `${'a_'.repeat(120)}/!`]) {
      assert.throws(() => parseReference(text))
    }
  })

  test('gives something stable or invalid-argument for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'aZ0:/@._-[]') }), (text) => {
        try {
          const form = canonical(parseReference(text))
          assert.equal(canonical(parseReference(form)), form)
        } catch (error) {
          assert.ok(isKind(error, 'invalid-argument'), String(error))
        }
      }),
    )
  })

  test('takes every name that the grammar makes, and says the same of it ever after', () => {
    const letters = fc.string({ unit: fc.constantFrom(...'abz09'), minLength: 1, maxLength: 6 })
    const separator = fc.constantFrom('.', '_', '__', '-', '--')
    const part = fc
      .tuple(letters, fc.array(fc.tuple(separator, letters), { maxLength: 2 }))
      .map(([first, more]) => first + more.map(([between, next]) => between + next).join(''))
    const domain = fc
      .tuple(
        fc.constantFrom('localhost', 'r.example', 'A.Example', '10.0.0.1', '[fd00::1]'),
        fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
      )
      .map(([host, port]) => (port === undefined ? host : `${host}:${port}`))
    const tag = fc.stringMatching(/^\w[\w.-]{0,20}$/)
    const hex = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 64, maxLength: 64 })
    fc.assert(
      fc.property(
        domain,
        fc.array(part, { minLength: 1, maxLength: 4 }),
        fc.option(tag, { nil: undefined }),
        fc.option(hex, { nil: undefined }),
        (registry, parts, named, hash) => {
          const end = `${named === undefined ? '' : `:${named}`}${hash === undefined ? '' : `@sha256:${hash}`}`
          const reference = parseReference(`${registry}/${parts.join('/')}${end}`)
          assert.equal(reference.domain, registry.toLowerCase())
          assert.equal(reference.path, parts.join('/'))
          assert.equal(reference.tag, named ?? (hash === undefined ? 'latest' : undefined))
          assert.equal(reference.digest, hash === undefined ? undefined : `sha256:${hash}`)
          assert.equal(isShortName(`${registry}/${parts.join('/')}${end}`), false)
          // Without its registry it is short, unless its first part looks like one.
          const short = `${parts.join('/')}${end}`
          const looksLike = parts.length > 1 && /\.|^localhost$/.test(parts[0] ?? '')
          assert.equal(isShortName(short), !looksLike, short)
        },
      ),
    )
  })
})
