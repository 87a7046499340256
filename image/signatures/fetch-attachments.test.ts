import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { type Digest, digestOf } from '#storage/digest.ts'
import type { FetchedDocument } from '../image-source.ts'
import { OCI_INDEX, OCI_MANIFEST } from '../media-types.ts'
import type { BuiltImage } from '../testing/image-builder.ts'
import { bundleOf, claimOf, makeKey, referrersOf, signatureImage, signClaim, statementOf } from '../testing/signer.ts'
import { fetchAttachments, type SignatureSource } from './fetch-attachments.ts'

const subject = digestOf(Buffer.from('an image'))
const key = makeKey()
const bundle = bundleOf({ payload: statementOf(subject), key })
const { images: bundles } = referrersOf(subject, [bundle])
const first = signatureImage([signClaim(claimOf('r.example/app', subject), key)])
const { signal } = new AbortController()

/** A registry that keeps the list of what refers to an image under a tag, with these types in it. */
class Beside implements SignatureSource {
  readonly fetched: Digest[] = []
  readonly #documents = new Map<string, FetchedDocument>()
  readonly #blobs = new Map<Digest, Buffer>()

  constructor(listed: readonly (readonly [artifactType: string | undefined, image: BuiltImage])[]) {
    const manifests = listed.map(([artifactType, { bytes, digest }]) => ({
      mediaType: OCI_MANIFEST,
      digest,
      size: bytes.length,
      ...(artifactType !== undefined && { artifactType }),
    }))
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }))
    this.#documents.set(subject.replace(':', '-'), { bytes, contentType: OCI_INDEX, digest: digestOf(bytes) })
    for (const [, image] of listed) {
      this.#documents.set(image.digest, { ...image, contentType: image.mediaType })
      for (const [digest, blob] of image.blobs) this.#blobs.set(digest, blob)
    }
  }

  async document(target: { tag: string } | { digest: Digest }): Promise<FetchedDocument> {
    const name = 'tag' in target ? target.tag : target.digest
    if ('digest' in target) this.fetched.push(target.digest)
    return this.#documents.get(name) ?? missing(name)
  }

  async referrers(): Promise<undefined> {}

  async smallBlob({ digest }: { digest: Digest }): Promise<Buffer> {
    return this.#blobs.get(digest) ?? missing(digest)
  }

  blob(): Promise<never> {
    return missing('a layer')
  }
}

const missing = (what: string): never => {
  throw new RuntimeError('not-found', `There is no ${what}`)
}

const kindsOf = async (source: SignatureSource): Promise<string[]> =>
  (await fetchAttachments(source, subject, silentLog, signal)).map(({ kind }) => kind)

suite('what refers to an image', () => {
  const [held] = bundles
  assert.ok(held)
  const names: [artifactType: string | undefined, who: string][] = [
    ['application/vnd.dev.sigstore.bundle.v0.3+json', 'the specification'],
    ['application/vnd.dev.sigstore.bundle+json;version=0.2', 'earlier bundles'],
    ['application/vnd.oci.empty.v1+json', 'cosign 3 where there is no API of referrers'],
    ['application/vnd.oci.image.config.v1+json', 'clients that know no artifact types'],
    [undefined, 'clients that say nothing'],
  ]
  for (const [artifactType, who] of names) {
    test(`is found to be a bundle when its list says ${artifactType ?? 'nothing'} (${who})`, async () => {
      assert.deepEqual(await kindsOf(new Beside([[artifactType, held]])), ['bundle'])
    })
  }

  test('may be a signature of the first form, as cosign attaches it with --registry-referrers-mode=oci-1-1', async () => {
    const source = new Beside([['application/vnd.dev.cosign.artifact.sig.v1+json', first]])
    assert.deepEqual(await kindsOf(source), ['cosign'])
  })

  test('is not fetched when it says that it is something else', async () => {
    const source = new Beside([
      ['application/spdx+json', held],
      ['application/vnd.dev.cosign.artifact.sbom.v1+json', first],
    ])
    assert.deepEqual(await kindsOf(source), [])
    assert.deepEqual(source.fetched, [])
  })

  test('is bounded, however long the list is', async () => {
    const source = new Beside(Array.from({ length: 200 }, () => [undefined, held] as const))
    assert.equal((await kindsOf(source)).length, 64)
    assert.equal(source.fetched.length, 64)
  })
})
