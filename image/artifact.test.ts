import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { parseArtifact } from './artifact.ts'
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from './media-types.ts'

const digest = `sha256:${'c'.repeat(64)}`
const empty = { mediaType: 'application/vnd.oci.empty.v1+json', digest, size: 2 }
const blob = { mediaType: 'application/vnd.example.weights', digest, size: 9 }
const artifact = {
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  artifactType: 'application/vnd.example.model',
  config: empty,
  layers: [{ ...blob, annotations: { 'org.opencontainers.image.title': 'model.bin' } }, blob],
}

const parse = (value: unknown) => parseArtifact(Buffer.from(JSON.stringify(value)), 'Artifact')
const refuses = (kind: ErrorKind, value: unknown) =>
  assert.throws(
    () => parse(value),
    (error) => isKind(error, kind),
  )

suite('OCI artifact', () => {
  test('says its type and names its blobs', () => {
    assert.deepEqual(parse(artifact), {
      kind: 'artifact',
      artifactType: 'application/vnd.example.model',
      config: empty,
      blobs: [
        { descriptor: blob, title: 'model.bin' },
        { descriptor: blob, title: undefined },
      ],
    })
  })

  test('is told from an image by its config where it says no type', () => {
    const { artifactType: _, ...silent } = artifact
    assert.equal(parse(silent).artifactType, empty.mediaType)
    for (const image of [silent, artifact]) {
      refuses('failed-precondition', { ...image, config: { ...empty, mediaType: OCI_CONFIG } })
    }
  })

  test('refuses what is no manifest, and too much of one', () => {
    refuses('failed-precondition', { ...artifact, mediaType: OCI_INDEX })
    refuses('failed-precondition', { ...artifact, layers: [{ ...blob, digest: 'sha256:../x' }] })
    refuses('failed-precondition', { ...artifact, config: undefined })
    refuses('resource-exhausted', { ...artifact, layers: Array.from({ length: 1000 }, () => blob) })
  })
})
