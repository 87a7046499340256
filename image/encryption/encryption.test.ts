import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { isKind } from '#proto/errors.ts'
import type { Compression } from '#storage/compression.ts'
import { DockerRegistry, hasDockerRegistry } from '../testing/docker-registry.ts'
import { type EncryptedLayer, encryptedImage, type Recipient, sealJwe } from '../testing/encryptor.ts'
import { buildImage, buildLayer } from '../testing/image-builder.ts'
import { TestRegistry } from '../testing/registry.ts'
import { TestImages } from '../testing/test-images.ts'
import { openJwe } from './jwe.ts'

const rsa = () => generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = (namedCurve = 'P-256') => generateKeyPairSync('ec', { namedCurve })

class Keys implements AsyncDisposable {
  readonly dir: string
  constructor(dir: string) {
    this.dir = dir
  }
  static async make(): Promise<Keys> {
    return new Keys(await mkdtemp(join(tmpdir(), 'cricket-keys-')))
  }
  async put(name: string, content: string | Buffer): Promise<void> {
    await writeFile(join(this.dir, name), content, { mode: 0o600 })
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true })
  }
}

const pem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString()

suite('JSON Web Encryption', () => {
  const content = Buffer.from('what is secret')
  const pairs: [string, { publicKey: KeyObject; privateKey: KeyObject }, Recipient['alg'][]][] = [
    ['RSA', rsa(), ['RSA-OAEP', 'RSA-OAEP-256']],
    ['P-256', ec(), ['ECDH-ES+A128KW', 'ECDH-ES+A192KW', 'ECDH-ES+A256KW']],
    ['P-521', ec('P-521'), ['ECDH-ES+A256KW']],
  ]
  for (const [name, { publicKey, privateKey }, algorithms] of pairs) {
    for (const alg of algorithms) {
      test(`opens by a key of ${name} what ${alg} has sealed, for one recipient or several`, () => {
        const one = sealJwe(content, [{ key: publicKey, alg }])
        assert.deepEqual(openJwe(one, [privateKey]), content)
        const other = ec()
        const two = sealJwe(content, [
          { key: other.publicKey, alg: 'ECDH-ES+A256KW' },
          { key: publicKey, alg },
        ])
        assert.deepEqual(openJwe(two, [privateKey]), content)
        assert.deepEqual(openJwe(two, [rsa().privateKey, other.privateKey]), content)
        assert.equal(openJwe(two, [ec().privateKey, rsa().privateKey]), undefined)
      })
    }
  }

  test('does not open what was changed', () => {
    const { publicKey, privateKey } = ec()
    const sealed = sealJwe(content, [{ key: publicKey, alg: 'ECDH-ES+A256KW' }])
    for (const field of ['protected', 'encrypted_key', 'iv', 'ciphertext', 'tag'] as const) {
      const jwe = JSON.parse(sealed)
      const bytes = Buffer.from(jwe[field], 'base64url')
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      const changed = JSON.stringify({ ...jwe, [field]: bytes.toString('base64url') })
      let opened: Buffer | undefined
      try {
        opened = openJwe(changed, [privateKey])
      } catch {
        // A header that is no JSON any more.
      }
      assert.equal(opened, undefined, field)
    }
    const short = {
      ...JSON.parse(sealed),
      tag: Buffer.from(JSON.parse(sealed).tag, 'base64url').subarray(0, 4).toString('base64url'),
    }
    assert.equal(openJwe(JSON.stringify(short), [privateKey]), undefined, 'a shortened tag')
  })
})

suite('an encrypted image', () => {
  const refused = (attempt: Promise<unknown>, why: RegExp): Promise<void> =>
    assert.rejects(attempt, (error) => {
      assert.ok(isKind(error, 'failed-precondition'), String(error))
      assert.match(error.message, why)
      return true
    })

  for (const compression of ['gzip', 'zstd', 'none'] satisfies Compression[]) {
    test(`packed by ${compression} is decrypted by a key of the node, and nothing plain is left`, async () => {
      await using keys = await Keys.make()
      await using registry = await TestRegistry.start()
      const { publicKey, privateKey } = rsa()
      const layers = [
        await buildLayer({ 'etc/one': 'first' }, compression),
        await buildLayer({ 'etc/two': 'x'.repeat(700_000) }, compression),
      ]
      const image = encryptedImage(layers, [{ key: publicKey, alg: 'RSA-OAEP' }])
      registry.add('secret', image, 'v1')
      await keys.put('0-readme.txt', 'this is no key')
      await keys.put('1.pem', pem(ec().privateKey))
      await keys.put('2.pem', pem(privateKey))
      await using here = await TestImages.open({ config: { decryptionKeysDir: keys.dir } })
      const record = await here.images.pull({ reference: `${registry.host}/secret:v1` })
      assert.equal(record.id, image.id)
      const second = here.storage.layers.get(record.diffIds[1] ?? assert.fail())
      assert.equal((await readFile(join(second?.path ?? '', 'etc/two'), 'utf8')).length, 700_000)
      assert.deepEqual(here.storage.blobs.list().toSorted(), [image.digest, image.id].toSorted())
    })
  }

  test('is refused in clear words without its key, before a layer is fetched', async () => {
    await using keys = await Keys.make()
    await using registry = await TestRegistry.start()
    const { publicKey, privateKey } = ec()
    const layers = [await buildLayer({ a: 'content' })]
    const image = encryptedImage(layers, [{ key: publicKey, alg: 'ECDH-ES+A256KW' }])
    registry.add('secret', image, 'v1')
    await using here = await TestImages.open({ config: { decryptionKeysDir: keys.dir } })
    const pull = () => here.images.pull({ reference: `${registry.host}/secret:v1` })
    await refused(pull(), /is encrypted, and this node has no private keys \(image\.decryptionKeysDir\)/)
    await keys.put('wrong.pem', pem(ec().privateKey))
    await refused(pull(), /is encrypted, and none of the 1 private keys of this node opens it/)
    for (const digest of image.blobs.keys()) assert.ok(digest === image.id || registry.seen(digest).length === 0)
    await keys.put('right.der', privateKey.export({ type: 'pkcs8', format: 'der' }))
    assert.equal((await pull()).id, image.id)
  })

  const key = rsa()
  const recipients: Recipient[] = [{ key: key.publicKey, alg: 'RSA-OAEP-256' }]
  const KEYS = 'org.opencontainers.image.enc.keys.jwe'
  const OPTIONS = 'org.opencontainers.image.enc.pubopts'
  const faults: [string, (layer: EncryptedLayer) => EncryptedLayer, RegExp][] = [
    [
      'without an HMAC',
      ({ bytes, annotations: { [KEYS]: jwe = '' } }) => ({ bytes, annotations: { [KEYS]: jwe } }),
      /cannot be read/,
    ],
    [
      'with another HMAC',
      ({ bytes, annotations }) => {
        const said = JSON.parse(Buffer.from(annotations[OPTIONS] ?? '', 'base64').toString())
        const other = JSON.stringify({ ...said, hmac: Buffer.alloc(32).toString('base64') })
        return { bytes, annotations: { ...annotations, [OPTIONS]: Buffer.from(other).toString('base64') } }
      },
      /does not have the HMAC/,
    ],
    [
      'with bytes that were changed',
      ({ bytes, annotations }) => ({
        bytes: Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]),
        annotations,
      }),
      /does not have the HMAC/,
    ],
    [
      'for another way of wrapping keys',
      ({ bytes }) => ({ bytes, annotations: { 'org.opencontainers.image.enc.keys.pkcs11': 'AA==' } }),
      /wrapped by pkcs11, which is not supported/,
    ],
    ['without keys', ({ bytes }) => ({ bytes, annotations: {} }), /it says no key/],
    ['with nonsense for keys', ({ bytes }) => ({ bytes, annotations: { [KEYS]: 'AA==' } }), /cannot be read/],
  ]
  for (const [what, alter, why] of faults) {
    test(`${what} is refused`, async () => {
      await using keys = await Keys.make()
      await using registry = await TestRegistry.start()
      await keys.put('key.pem', pem(key.privateKey))
      const image = encryptedImage([await buildLayer({ a: 'content' })], recipients, alter)
      registry.add('secret', image, 'v1')
      await using here = await TestImages.open({ config: { decryptionKeysDir: keys.dir } })
      await refused(here.images.pull({ reference: `${registry.host}/secret:v1` }), why)
      assert.deepEqual(here.images.list(), [])
    })
  }

  const hasTools = hasDockerRegistry() && existsSync('/usr/bin/skopeo')
  test('made by skopeo is opened, also one that was recompressed on the way', {
    skip: !hasTools && 'host lacks skopeo',
  }, async () => {
    const run = promisify(execFile)
    await using keys = await Keys.make()
    await using registry = await DockerRegistry.start()
    for (const [name, { publicKey, privateKey }] of [
      ['rsa', rsa()],
      ['ec', ec()],
    ] as const) {
      for (const compression of ['gzip', 'none'] satisfies Compression[]) {
        const image = buildImage({ layers: [await buildLayer({ 'etc/made': `${name} ${compression}` }, compression)] })
        await registry.push('plain', image, `${name}-${compression}`)
        await writeFile(join(keys.dir, `../${name}.pub`), publicKey.export({ type: 'spki', format: 'pem' }))
        await keys.put(`${name}.pem`, pem(privateKey))
        const at = (repository: string) => `docker://${registry.host}/${repository}:${name}-${compression}`
        const tls = ['--src-tls-verify=false', '--dest-tls-verify=false', '--insecure-policy']
        const encryption = ['--encryption-key', `jwe:${join(keys.dir, `../${name}.pub`)}`]
        await run('/usr/bin/skopeo', [
          '--insecure-policy',
          'copy',
          ...tls.slice(0, 2),
          ...encryption,
          at('plain'),
          at('sealed'),
        ])
        await rm(join(keys.dir, `../${name}.pub`))
        await using here = await TestImages.open({ config: { decryptionKeysDir: keys.dir } })
        const record = await here.images.pull({ reference: `${registry.host}/sealed:${name}-${compression}` })
        const layer = here.storage.layers.get(record.diffIds[0] ?? assert.fail())
        assert.equal(await readFile(join(layer?.path ?? '', 'etc/made'), 'utf8'), `${name} ${compression}`)
      }
    }
  })
})
