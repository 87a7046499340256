import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { canonical, parseReference, repositoryOf } from '../reference.ts'
import { identityMatches } from './match-identity.ts'
import { requirementsFor, requirementsForFile } from './match-scope.ts'
import type { Policy, SignedIdentity } from './policy.ts'

const policyWith = (transport: string, ...scopes: string[]): Policy => ({
  default: [{ type: 'reject' }],
  transports: new Map([[transport, new Map(scopes.map((scope) => [scope, [{ type: 'insecureAcceptAnything' }]]))]]),
  files: [],
})

const scopeOf = (name: string, ...scopes: string[]): string =>
  requirementsFor(policyWith('docker', ...scopes), parseReference(name)).scope

const digest = `sha256:${'a'.repeat(64)}`

suite('the scope that speaks for an image', () => {
  test('is the longest that it lies in', () => {
    const scopes = ['', '*.example', '*.b.example', 'a.b.example:5000', 'a.b.example:5000/x', 'a.b.example:5000/x/y']
    const tagged = 'a.b.example:5000/x/y:1'
    const order = [...scopes, tagged].toReversed()
    for (const [index, scope] of order.entries()) {
      assert.equal(scopeOf(tagged, ...order.slice(index)), `transports.docker.${JSON.stringify(scope)}`)
    }
    assert.equal(scopeOf(tagged), 'default')
    assert.equal(
      scopeOf(`a.b.example:5000/x/y@${digest}`, ...scopes, tagged),
      'transports.docker."a.b.example:5000/x/y"',
    )
    assert.equal(scopeOf('busybox', 'docker.io/library'), 'transports.docker."docker.io/library"')
  })

  test('ends where a name ends', () => {
    assert.equal(scopeOf('quay.io/teams/app', 'quay.io/team'), 'default')
    assert.equal(scopeOf('quay.io:443/team/app', 'quay.io'), 'default')
    assert.equal(scopeOf('evil-example/app:1', '*.example'), 'default')
    assert.equal(scopeOf('example.com/app:1', '*.example.com'), 'default')
    assert.equal(scopeOf('a.example.com:5000/app:1', '*.example.com'), 'transports.docker."*.example.com"')
  })

  test('of a file is its directory, or all files of that kind', () => {
    const policy = policyWith('oci', '/srv/images')
    assert.equal(requirementsForFile(policy, 'oci', '/srv/images/app').scope, 'transports.oci."/srv/images"')
    assert.equal(requirementsForFile(policy, 'oci', '/srv/images-evil/app').scope, 'default')
    assert.equal(requirementsForFile(policy, 'docker-archive', '/srv/images/app').scope, 'default')
  })
})

const host = fc.constantFrom('quay.io', 'a.example:5000', 'localhost', 'docker.io')
const part = fc.stringMatching(/^[a-z]{1,3}$/)
const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'))
const end = fc.oneof(fc.stringMatching(/^:[a-z0-9]{1,3}$/), fc.constantFrom(`@${digest}`, `@sha256:${'b'.repeat(64)}`))
const name = fc.tuple(host, path, end).map(([h, p, e]) => `${h}/${p}${e}`)

suite('what a signature says that it signed', () => {
  const fits = (rule: SignedIdentity, signed: string | undefined, asked: string): boolean =>
    identityMatches(rule, signed, parseReference(asked))

  test('fits by the rule of the policy', () => {
    const asked = 'quay.io/team/app:1'
    const exact: SignedIdentity = { type: 'matchExact' }
    const usual: SignedIdentity = { type: 'matchRepoDigestOrExact' }
    const repository: SignedIdentity = { type: 'matchRepository' }
    for (const rule of [exact, usual]) {
      assert.ok(fits(rule, asked, asked))
      for (const other of ['quay.io/team/app:2', 'quay.io/team/app', 'quay.io/team/other:1', undefined, '', 'A B']) {
        assert.ok(!fits(rule, other, asked), `${rule.type} ${other}`)
      }
    }
    assert.ok(!fits(exact, asked, `quay.io/team/app@${digest}`))
    assert.ok(fits(usual, asked, `quay.io/team/app@${digest}`))
    assert.ok(!fits(usual, asked, `quay.io/other/app@${digest}`))
    assert.ok(fits(repository, 'quay.io/team/app', asked) && fits(repository, 'quay.io/team/app:9', asked))
    assert.ok(!fits(repository, 'quay.io/team/app2', asked))
    assert.ok(fits({ type: 'exactReference', dockerReference: 'x.io/a:1' }, 'x.io/a:1', asked))
    assert.ok(!fits({ type: 'exactReference', dockerReference: 'x.io/a:1' }, 'x.io/a', asked))
    assert.ok(fits({ type: 'exactRepository', dockerRepository: 'x.io/a' }, 'x.io/a:7', asked))
    assert.ok(!fits({ type: 'exactRepository', dockerRepository: 'x.io/a' }, asked, asked))
    assert.ok(fits({ type: 'matchDigest' }, undefined, asked))
  })

  test('is mapped by whole parts of a name', () => {
    const rule: SignedIdentity = { type: 'remapIdentity', prefix: 'mirror.local/quay', signedPrefix: 'quay.io' }
    assert.ok(fits(rule, 'quay.io/team/app:1', 'mirror.local/quay/team/app:1'))
    assert.ok(!fits(rule, 'mirror.local/quay/team/app:1', 'mirror.local/quay/team/app:1'))
    assert.ok(!fits(rule, 'quay.io2/team/app:1', 'mirror.local/quay2/team/app:1'))
    assert.ok(fits(rule, 'mirror.local/quay2/team/app:1', 'mirror.local/quay2/team/app:1'))
  })

  test('for any two names, never fits more exactly than by repository', () => {
    fc.assert(
      fc.property(name, name, (signed, asked) => {
        const [a, b] = [parseReference(signed), parseReference(asked)]
        const same = repositoryOf(a) === repositoryOf(b)
        assert.equal(fits({ type: 'matchRepository' }, signed, asked), same)
        assert.equal(fits({ type: 'matchExact' }, signed, asked), canonical(a) === canonical(b))
        if (fits({ type: 'matchRepoDigestOrExact' }, signed, asked)) assert.ok(same)
      }),
    )
  })
})
