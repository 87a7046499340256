import assert from 'node:assert/strict'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { Authority, hasOpenssl } from './testing/certificates.ts'
import { type BuiltImage, buildImage, buildLayer } from './testing/image-builder.ts'
import { type RegistryAccess, type ServerTls, TestRegistry } from './testing/registry.ts'
import { TestImages } from './testing/test-images.ts'

/** A registry over TLS and a store whose certs.d directory is ours. */
class Rig implements AsyncDisposable {
  readonly registry: TestRegistry
  readonly image: BuiltImage
  readonly certs: string
  readonly here: TestImages

  private constructor(registry: TestRegistry, image: BuiltImage, certs: string, here: TestImages) {
    this.registry = registry
    this.image = image
    this.certs = certs
    this.here = here
  }

  static async make(tls: ServerTls, insecureRegistries: string[] = [], access?: RegistryAccess): Promise<Rig> {
    const registry = await TestRegistry.start(access, tls)
    const image = buildImage({ layers: [await buildLayer({ a: 'b' })] })
    registry.add('app', image, '1')
    const certs = await mkdtemp(join(tmpdir(), 'cricket-tls-'))
    await mkdir(join(certs, registry.host))
    const insecure = insecureRegistries.map((name) => name.replace('HOST', registry.host))
    const config = { certsDirs: [certs], insecureRegistries: insecure }
    return new Rig(registry, image, certs, await TestImages.open({ config }))
  }

  path(name: string): string {
    return join(this.certs, this.registry.host, name)
  }

  /** TLS although it is loopback. */
  async pull(): Promise<string> {
    return (await this.here.images.pull({ reference: `${this.registry.host}/app:1` })).id
  }

  async refused(kind: ErrorKind, says?: RegExp): Promise<void> {
    await assert.rejects(this.pull(), (error) => {
      assert.ok(isKind(error, kind), String(error))
      if (says) assert.match(error.message, says)
      return true
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.here[Symbol.asyncDispose]()
    await this.registry[Symbol.asyncDispose]()
    await rm(this.certs, { recursive: true })
  }
}

suite('pull over TLS', { skip: !hasOpenssl() && 'host lacks openssl' }, () => {
  test('trusts the authority of the host directory, at once when it changes', async () => {
    await using good = await Authority.make()
    await using other = await Authority.make()
    await using rig = await Rig.make(await good.issue('server'))
    await copyFile(other.file, rig.path('ca.crt'))
    await rig.refused('registry-unavailable', /UNABLE_TO_VERIFY|SELF_SIGNED|unable to verify/)
    assert.equal(rig.registry.requests.length, 0)
    await copyFile(good.file, rig.path('ca.crt'))
    assert.equal(await rig.pull(), rig.image.id)
    await copyFile(other.file, rig.path('ca.crt'))
    await rig.refused('registry-unavailable')
  })

  test('refuses a certificate for another host, and one that has expired', async () => {
    await using authority = await Authority.make()
    for (const options of [{ san: 'DNS:other.example' }, { days: 0 }]) {
      await using rig = await Rig.make(await authority.issue('server', options))
      await copyFile(authority.file, rig.path('ca.crt'))
      await rig.refused('registry-unavailable', /ERR_TLS_CERT_ALTNAME_INVALID|CERT_HAS_EXPIRED/)
      assert.equal(rig.registry.requests.length, 0)
    }
  })

  test('refuses TLS 1.1', async () => {
    await using authority = await Authority.make()
    await using rig = await Rig.make({ ...(await authority.issue('server')), maxVersion: 'TLSv1.1' })
    await copyFile(authority.file, rig.path('ca.crt'))
    await rig.refused('registry-unavailable')
    assert.equal(rig.registry.requests.length, 0)
  })

  test('shows the client certificate of the host directory, and of hosts.toml', async () => {
    await using authority = await Authority.make()
    const server = { ...(await authority.issue('server')), ca: authority.cert, requireClient: true }
    const client = await authority.issue('node-1')
    await using rig = await Rig.make(server)
    await copyFile(authority.file, rig.path('ca.crt'))
    await rig.refused('registry-unavailable')
    await copyFile(client.certFile, rig.path('client.cert'))
    await copyFile(client.keyFile, rig.path('client.key'))
    assert.equal(await rig.pull(), rig.image.id)
    assert.ok(rig.registry.requests.every((request) => request.client === 'node-1'))
    await writeFile(rig.path('both.pem'), client.cert + client.key)
    await writeFile(rig.path('hosts.toml'), 'ca = "ca.crt"\nclient = "both.pem"')
    await rig.pull()
    await writeFile(rig.path('hosts.toml'), 'ca = "ca.crt"\nclient = [["client.cert", "client.key"]]')
    await rig.pull()
    await writeFile(rig.path('hosts.toml'), 'ca = "ca.crt"')
    await rig.refused('registry-unavailable')
  })

  test('does not show it where a redirect leads', async () => {
    await using authority = await Authority.make()
    const server = { ...(await authority.issue('server')), ca: authority.cert }
    const client = await authority.issue('node-1')
    await using storage = await TestRegistry.start(undefined, server)
    await using rig = await Rig.make(server)
    await copyFile(authority.file, rig.path('ca.crt'))
    await copyFile(client.certFile, rig.path('client.cert'))
    await copyFile(client.keyFile, rig.path('client.key'))
    storage.add('app', rig.image)
    const { digest } = rig.image.layers[0] ?? assert.fail()
    const location = `https://${storage.host}/v2/app/blobs/${digest}`
    rig.registry.misbehave({ path: digest, misdeed: { do: 'answer', status: 307, headers: { location } } })
    assert.equal(await rig.pull(), rig.image.id)
    assert.deepEqual(
      storage.requests.map((request) => request.client),
      [undefined],
    )
    assert.ok(rig.registry.requests.every((request) => request.client === 'node-1'))
  })

  test('gives nothing to a redirect or a token service without TLS, be it the same server', async () => {
    await using authority = await Authority.make()
    await using plain = await TestRegistry.start({ kind: 'token' })
    for (const insecure of [false, true]) {
      await using rig = await Rig.make(await authority.issue('server'), insecure ? ['HOST'] : [])
      await copyFile(authority.file, rig.path('ca.crt'))
      const location = `http://${plain.host}/v2/app/manifests/1`
      rig.registry.misbehave({
        path: '/manifests/',
        times: 1,
        misdeed: { do: 'answer', status: 307, headers: { location } },
      })
      await rig.refused('failed-precondition', /redirects to plain HTTP/)
      const realms = [`http://${plain.host}/token`, ...(insecure ? [] : [`http://${rig.registry.host}/token`])]
      for (const realm of realms) {
        rig.registry.access = { kind: 'token', username: 'u', password: 'p', realm }
        await rig.refused('failed-precondition', /token service that is not HTTPS/)
      }
      assert.ok(rig.registry.requests.every(({ headers }) => headers.authorization === undefined))
    }
    assert.deepEqual(plain.requests, [])
  })

  test('takes any certificate only where that is configured', async () => {
    await using authority = await Authority.make()
    await using rig = await Rig.make(await authority.issue('server', { san: 'DNS:other.example', days: 0 }))
    await copyFile(authority.file, rig.path('ca.crt'))
    await rig.refused('registry-unavailable')
    await writeFile(rig.path('hosts.toml'), 'skip_verify = true')
    assert.equal(await rig.pull(), rig.image.id)
  })

  test('does not leave TLS because of what a server says, however insecure it may be', async () => {
    await using authority = await Authority.make()
    await using rig = await Rig.make(await authority.issue('server'), ['HOST'], {
      kind: 'basic',
      username: 'u',
      password: 'p',
    })
    // Makes loopback speak TLS here.
    await copyFile(authority.file, rig.path('ca.crt'))
    await rig.refused('permission-denied')
    assert.ok(rig.registry.requests.length > 0)
  })

  test('leaves TLS for a server that speaks none, where that is configured', async () => {
    await using authority = await Authority.make()
    await using registry = await TestRegistry.start()
    const image = buildImage({ layers: [await buildLayer({ a: 'b' })] })
    registry.add('app', image, '1')
    const certs = await mkdtemp(join(tmpdir(), 'cricket-tls-'))
    await mkdir(join(certs, registry.host))
    await copyFile(authority.file, join(certs, registry.host, 'ca.crt'))
    for (const insecure of [false, true]) {
      const insecureRegistries = insecure ? [registry.host] : []
      await using here = await TestImages.open({ config: { certsDirs: [certs], insecureRegistries } })
      const pull = here.images.pull({ reference: `${registry.host}/app:1` })
      if (insecure) assert.equal((await pull).id, image.id)
      else await assert.rejects(pull, (error) => isKind(error, 'registry-unavailable'))
    }
    await rm(certs, { recursive: true })
  })

  test('names the file that cannot be used', async () => {
    await using authority = await Authority.make()
    await using rig = await Rig.make(await authority.issue('server'))
    const pairs: [files: Record<string, string>, says: RegExp][] = [
      [{ 'ca.crt': 'no certificate' }, /ca\.crt": holds no PEM "CERTIFICATE"/],
      [{ 'ca.crt': '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }, /ca\.crt": cannot be used/],
      [
        { 'ca.crt': authority.cert, 'x.cert': authority.cert, 'x.key': (await authority.issue('y')).key },
        /x\.cert" and ".*x\.key": cannot be used/,
      ],
    ]
    for (const [files, says] of pairs) {
      for (const [name, text] of Object.entries(files)) await writeFile(rig.path(name), text)
      await rig.refused('failed-precondition', says)
    }
  })
})
