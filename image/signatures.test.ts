import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import type { ImagesConfig, SignatureSettings } from './images-config.ts'
import { Gpg, hasGpg } from './testing/gpg.ts'
import { buildImage, buildIndex, buildLayer, testHost } from './testing/image-builder.ts'
import { TestRegistry } from './testing/registry.ts'
import {
  bundleOf,
  claimOf,
  type KeyPair,
  makeKey,
  referrersOf,
  signatureImage,
  signatureTag,
  signClaim,
  statementOf,
} from './testing/signer.ts'
import { TestImages, testConfig } from './testing/test-images.ts'

/** A directory with policies and whatever they name. */
class Site implements AsyncDisposable {
  readonly dir: string
  constructor(dir: string) {
    this.dir = dir
  }
  static async make(): Promise<Site> {
    return new Site(await mkdtemp(join(tmpdir(), 'cricket-trust-')))
  }
  path(name: string): string {
    return join(this.dir, name)
  }
  async write(name: string, content: string | Buffer | object): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true })
    const isBytes = typeof content === 'string' || Buffer.isBuffer(content)
    await writeFile(this.path(name), isBytes ? content : JSON.stringify(content))
  }
  config(settings: Partial<SignatureSettings> = {}): Partial<ImagesConfig> {
    const policyFile = this.path('policy.json')
    return { signatures: { ...testConfig.signatures, policyFile, placesDir: this.path('places'), ...settings } }
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true })
  }
}

const accept = [{ type: 'insecureAcceptAnything' }]
const reject = [{ type: 'reject' }]
const signedBy = (key: KeyPair, identity = 'matchRepository') => [
  {
    type: 'sigstoreSigned',
    keyData: Buffer.from(key.pem).toString('base64'),
    signedIdentity: { type: identity },
  },
]

const invalid = (attempt: Promise<unknown>, why: RegExp): Promise<void> =>
  assert.rejects(attempt, (error) => {
    assert.ok(isKind(error, 'signature-validation-failed'), String(error))
    assert.match(error.message, /^SignatureValidationFailed: /)
    assert.match(error.message, why)
    return true
  })

suite('an image under a signature policy', () => {
  test('comes when a key of the policy has signed it, and nothing but documents is fetched before', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const [key, other] = [makeKey(), makeKey()]
    const image = buildImage({ layers: [await buildLayer({ a: 'content' })] })
    registry.add('team/app', image, 'v1')
    const repository = `${registry.host}/team/app`
    await site.write('policy.json', { default: reject, transports: { docker: { [repository]: signedBy(key) } } })
    await using here = await TestImages.open({ config: site.config() })
    const pull = () => here.images.pull({ reference: `${repository}:v1` })

    await invalid(pull(), /needs a signature \(sigstoreSigned\), and there is none/)
    registry.add(
      'team/app',
      signatureImage([signClaim(claimOf(repository, image.digest), other)]),
      signatureTag(image.digest),
    )
    await invalid(pull(), /none of its 1 signatures is good.*no key of the policy/)
    const elsewhere = signClaim(claimOf(`${registry.host}/team/other`, image.digest), key)
    const another = signClaim(claimOf(repository, buildImage({ os: 'plan9' }).digest), key)
    registry.add('team/app', signatureImage([elsewhere, another]), signatureTag(image.digest))
    await invalid(pull(), /which is not what matchRepository wants; it is for another image/)
    for (const { digest } of image.layers) assert.equal(registry.seen(digest).length, 0, 'a layer was fetched')
    assert.deepEqual(here.images.list(), [])

    const good = signClaim(claimOf(repository, image.digest), key)
    registry.add('team/app', signatureImage([elsewhere, good]), signatureTag(image.digest))
    assert.equal((await pull()).id, image.id)
    await invalid(
      here.images.pull({ reference: `${registry.host}/team/else:v1` }).catch((error) => {
        assert.ok(isKind(error, 'not-found'), 'there is no such image')
        registry.add('team/else', image, 'v1')
        return here.images.pull({ reference: `${registry.host}/team/else:v1` })
      }),
      /refused by default: the policy rejects it/,
    )
  })

  test('counts as signed when the index that lists it is', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const key = makeKey()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    const index = buildIndex([{ image, platform: testHost }])
    registry.add('app', index, 'latest')
    const repository = `${registry.host}/app`
    registry.add('app', signatureImage([signClaim(claimOf(repository, index.digest), key)]), signatureTag(index.digest))
    await site.write('policy.json', { default: signedBy(key) })
    await using here = await TestImages.open({ config: site.config() })
    const record = await here.images.pull({ reference: repository })
    assert.equal(record.id, image.id)
    await here.images.authorize(record, { name: repository })
    // By the manifest's own digest nobody has signed it: the index is not on the way.
    await invalid(here.images.pull({ reference: `${repository}@${image.digest}` }), /there is none/)
  })

  test('may be signed by bundles: among the referrers, or under the tag that stands in for them', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const key = makeKey()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'v1')
    const repository = `${registry.host}/app`
    await site.write('policy.json', { default: signedBy(key, 'matchDigest') })
    await using here = await TestImages.open({ config: site.config() })
    const pull = () => here.images.pull({ reference: `${repository}:v1` })
    const wrong = bundleOf({ payload: statementOf(image.digest, { predicateType: 'https://x.test/other' }), key })
    registry.add('app', referrersOf(image.digest, [wrong]), image.digest.replace(':', '-'))
    await invalid(pull(), /no consent/)
    const list = referrersOf(image.digest, [wrong, bundleOf({ payload: statementOf(image.digest), key })])
    registry.add('app', list, image.digest.replace(':', '-'))
    await here.images.remove((await pull()).id)

    const answer = { status: 200, headers: { 'content-type': list.mediaType }, body: list.bytes }
    const empty = referrersOf(image.digest, [])
    registry.add('app', empty, image.digest.replace(':', '-'))
    await invalid(pull(), /there is none/)
    registry.misbehave({ path: '/referrers/', misdeed: { do: 'answer', ...answer } })
    await pull()
    // A bundle of cosign holds no name: only who says that the digest is enough takes it.
    await site.write('policy.json', { default: signedBy(key) })
    await invalid(pull(), /it is for "no name"/)
  })

  test('is not asked for signatures where registries.d says that there are none', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const key = makeKey()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    const repository = `${registry.host}/app`
    registry.add('app', image, 'v1')
    registry.add('app', signatureImage([signClaim(claimOf(repository, image.digest), key)]), signatureTag(image.digest))
    await site.write('policy.json', { default: signedBy(key) })
    const places = (say: boolean) =>
      site.write('places/all.yaml', `docker:\n  ${repository}:\n    use-sigstore-attachments: ${say}\n`)
    await places(false)
    await using here = await TestImages.open({ config: site.config() })
    const pull = () => here.images.pull({ reference: `${repository}:v1` })
    await invalid(pull(), /there is none/)
    assert.equal(registry.seen('.sig').length + registry.seen('/referrers/').length, 0)
    await places(true)
    await pull()
  })

  test('is judged again when it is used, without the network, by the policy of then and of the namespace', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const [key, other] = [makeKey(), makeKey()]
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    const repository = `${registry.host}/app`
    registry.add('app', image, 'v1')
    const both = [key, other].map((each) => signClaim(claimOf(repository, image.digest), each))
    registry.add('app', signatureImage(both), signatureTag(image.digest))
    await site.write('policy.json', { default: signedBy(key) })
    await site.write('namespaces/prod.json', { default: signedBy(makeKey()) })
    const config = site.config({ policyDir: site.path('namespaces') })
    let directory: string
    {
      const here = await TestImages.open({ config })
      const record = await here.images.pull({ reference: `${repository}:v1`, namespace: 'dev' })
      await invalid(here.images.pull({ reference: `${repository}:v1`, namespace: 'prod' }), /no key of the policy/)
      await here.images.authorize(record, { name: `${repository}:v1`, namespace: 'dev' })
      directory = await here.stop()
    }
    // Another life of the daemon, and no registry any more.
    await registry[Symbol.asyncDispose]()
    await using here = await TestImages.open({ config }, directory)
    const record = here.images.resolve(`${repository}:v1`) ?? assert.fail('it is gone')
    const use = (namespace?: string, name = `${repository}:v1`) => here.images.authorize(record, { name, namespace })
    await use('dev')
    await use('dev', '')
    await use('dev', record.id)
    await invalid(use('prod'), /refused by default: none of its 2 signatures/)
    await site.write('policy.json', { default: signedBy(other) })
    await use('dev')
    await site.write('policy.json', { default: signedBy(makeKey()) })
    await invalid(use('dev'), /pull it again/)
    await site.write('policy.json', { default: accept, transports: { docker: { [repository]: reject } } })
    await invalid(use(), /the policy rejects it/)
    await invalid(use(undefined, record.id), /the policy rejects it/)
    await site.write('policy.json', { default: signedBy(key) })
    await use()
    const kept = join(here.directory, 'images/signatures')
    assert.equal((await readdir(kept)).length, 1)
    await here.images.remove(record.id)
    assert.deepEqual(await readdir(kept), [])
  })

  test('that came before there was a policy is refused until it is pulled again', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const key = makeKey()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    const repository = `${registry.host}/app`
    registry.add('app', image, 'v1')
    registry.add('app', signatureImage([signClaim(claimOf(repository, image.digest), key)]), signatureTag(image.digest))
    await site.write('policy.json', { default: accept })
    await using here = await TestImages.open({ config: site.config() })
    const record = await here.images.pull({ reference: `${repository}:v1` })
    assert.equal(registry.seen('.sig').length, 0, 'nobody wanted signatures')
    await site.write('policy.json', { default: signedBy(key) })
    await invalid(here.images.authorize(record, { name: `${repository}:v1` }), /there is none; pull it again/)
    await here.images.pull({ reference: `${repository}:v1` })
    await here.images.authorize(record, { name: `${repository}:v1` })
  })

  test('whose kept signatures are damaged is refused, not let through', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const key = makeKey()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    const repository = `${registry.host}/app`
    registry.add('app', image, 'v1')
    registry.add('app', signatureImage([signClaim(claimOf(repository, image.digest), key)]), signatureTag(image.digest))
    await site.write('policy.json', { default: signedBy(key) })
    await using here = await TestImages.open({ config: site.config() })
    const record = await here.images.pull({ reference: `${repository}:v1` })
    const [name = ''] = await readdir(join(here.directory, 'images/signatures'))
    const file = join(here.directory, 'images/signatures', name)
    await writeFile(file, (await readFile(file, 'utf8')).replace('"cosign"', '"cosigN"'))
    await invalid(here.images.authorize(record, { name: `${repository}:v1` }), /there is none/)
  })

  test('cannot come when the registry fails to say whether it is signed', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    registry.add('app', buildImage(), 'v1')
    await site.write('policy.json', { default: signedBy(makeKey()) })
    await using here = await TestImages.open({ config: site.config() })
    registry.misbehave({ path: '.sig', misdeed: { do: 'answer', status: 503 } })
    await assert.rejects(here.images.pull({ reference: `${registry.host}/app:v1` }), (error) =>
      isKind(error, 'registry-unavailable'),
    )
  })

  test('keeps the store from opening when its policy is broken', async () => {
    await using site = await Site.make()
    await site.write('policy.json', { default: [{ type: 'sigstoreSigned', keyPath: '/nonexistent' }] })
    await assert.rejects(TestImages.open({ config: site.config() }), /policy\.json" is invalid: default\.0\.keyPath/)
  })
})

suite('an image signed by OpenPGP', { skip: !hasGpg() && 'host lacks gpg' }, () => {
  test('comes with its signature out of a directory or from a server beside the registry', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    await using gpg = await Gpg.make()
    await gpg.addKey('one@example.test')
    await gpg.addKey('two@example.test')
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('team/app', image, 'v1')
    const name = `${registry.host}/team/app:v1`
    const claim = claimOf(name, image.digest, 'atomic container signature')
    await site.write('ring.asc', await gpg.exportKey('one@example.test', { armor: true }))
    await site.write('policy.json', {
      default: reject,
      transports: {
        docker: { [registry.host]: [{ type: 'signedBy', keyType: 'GPGKeys', keyPath: site.path('ring.asc') }] },
      },
    })
    const stored = `team/app@${image.digest.replace(':', '=')}`
    await site.write(
      'places/all.yaml',
      `docker:\n  ${registry.host}:\n    lookaside: file://${site.path('lookaside')}\n`,
    )
    await using here = await TestImages.open({ config: site.config() })
    const pull = () => here.images.pull({ reference: name })
    await invalid(pull(), /needs a signature \(signedBy\)/)
    await site.write(`lookaside/${stored}/signature-1`, await gpg.sign(claim, 'two@example.test'))
    await invalid(pull(), /none of its 1 signatures/)
    await site.write(`lookaside/${stored}/signature-2`, await gpg.sign(claim, 'one@example.test'))
    const record = await pull()
    await here.images.authorize(record, { name })
    await here.images.remove(record.id)

    const asked: string[] = []
    const server = createServer((request, response) => {
      asked.push(request.url ?? '')
      const file = site.path(`lookaside${decodeURIComponent(request.url ?? '').slice('/sigs'.length)}`)
      readFile(file).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      )
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const { port } = server.address() as AddressInfo
      await site.write('places/all.yaml', `default-docker:\n  sigstore: http://127.0.0.1:${port}/sigs/\n`)
      await pull()
      assert.deepEqual(
        asked,
        [1, 2, 3].map((number) => `/sigs/${stored}/signature-${number}`),
      )
      await site.write('places/more.yaml', `default-docker:\n  lookaside: file:///elsewhere\n`)
      await assert.rejects(pull(), (error) => isKind(error, 'failed-precondition') && /already/.test(error.message))
    } finally {
      server.close()
    }
  })
})

suite('image verifiers', () => {
  const settings = (site: Site, more: object = {}): Partial<ImagesConfig> =>
    site.config({ policyFile: undefined, verifiers: { dir: site.path('bin'), most: 2, deadlineMs: 20_000, ...more } })
  const program = async (site: Site, name: string, text: string): Promise<void> => {
    await site.write(`bin/${name}`, `#!/bin/sh\n${text}\n`)
    await chmod(site.path(`bin/${name}`), 0o755)
  }

  test('are told name, digest and descriptor, and one that refuses keeps the image away', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    const image = buildImage({ layers: [await buildLayer({ a: '' })] })
    registry.add('app', image, 'v1')
    await using here = await TestImages.open({ config: settings(site) })
    const reference = `${registry.host}/app:v1`
    const pull = () => here.images.pull({ reference })
    await pull()
    await program(site, 'a', `echo "$@" > ${site.path('args')}; cat > ${site.path('input')}`)
    await pull()
    const args = `-name ${reference} -digest ${image.digest} -stdin-media-type application/vnd.oci.descriptor.v1+json\n`
    assert.equal(await readFile(site.path('args'), 'utf8'), args)
    assert.deepEqual(JSON.parse(await readFile(site.path('input'), 'utf8')), {
      mediaType: image.mediaType,
      digest: image.digest,
      size: image.bytes.length,
    })
    await program(site, 'b', 'printf "not\\n today"; exit 3')
    await invalid(pull(), /image verifier "b" refuses ".*" \(exit code 3\): not today$/)
    await program(site, 'b', 'kill -9 $$')
    await invalid(pull(), /killed by signal 9/)
    await program(site, 'c', 'exit 0')
    await invalid(pull(), /3 image verifiers.*allowed are 2/)
  })

  test('that hang, cannot be run, or talk without end are bounded', async () => {
    await using site = await Site.make()
    await using registry = await TestRegistry.start()
    registry.add('app', buildImage(), 'v1')
    await using here = await TestImages.open({ config: settings(site, { deadlineMs: 1_000 }) })
    const pull = () => here.images.pull({ reference: `${registry.host}/app:v1` })
    await program(site, 'a', 'sleep 1000')
    await invalid(pull(), /image verifier "a" failed: .*1000 ms/)
    await site.write('bin/a', 'no program')
    await chmod(site.path('bin/a'), 0o644)
    await invalid(pull(), /image verifier "a" failed/)
    await rm(site.path('bin/a'))
    await program(site, 'a', 'head -c 3000000 /dev/zero | tr "\\0" x; exit 1')
    await assert.rejects(pull(), (error) => error instanceof Error && error.message.length < 1000)
  })
})
