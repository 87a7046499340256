import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type ErrorKind, isKind } from '#proto/errors.ts'
import { MAX_LAYERS, parseDocument } from './manifest.ts'
import { DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from './media-types.ts'

const digest = `sha256:${'b'.repeat(64)}`
const config = { mediaType: OCI_CONFIG, digest, size: 2 }
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: 3 }
const manifest = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [layer] }
const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ mediaType: OCI_MANIFEST, digest, size: 4 }] }

const parse = (value: unknown, types: { contentType?: string; expectedType?: string } = {}) =>
  parseDocument(Buffer.from(JSON.stringify(value)), { what: 'Manifest', ...types })

const refuses = (kind: ErrorKind, value: unknown, types: { contentType?: string; expectedType?: string } = {}): void =>
  assert.throws(
    () => parse(value, types),
    (error) => isKind(error, kind),
  )

suite('manifest and index', () => {
  test('reads both dialects', () => {
    assert.equal(parse(manifest).kind, 'manifest')
    assert.equal(parse(index).kind, 'index')
    const dockerLayer = { ...layer, mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }
    const docker = {
      ...manifest,
      mediaType: DOCKER_MANIFEST,
      config: { ...config, mediaType: DOCKER_CONFIG },
      layers: [dockerLayer],
    }
    assert.equal(parse(docker, { contentType: DOCKER_MANIFEST }).kind, 'manifest')
    assert.equal(parse({ ...index, mediaType: DOCKER_LIST }).kind, 'index')
  })

  test('takes the type from the sender when the document does not say it', () => {
    const { mediaType: _, ...silent } = manifest
    assert.equal(parse(silent, { contentType: `${OCI_MANIFEST}; charset=utf-8` }).kind, 'manifest')
    assert.equal(parse(silent, { contentType: 'application/json', expectedType: OCI_MANIFEST }).kind, 'manifest')
    refuses('failed-precondition', silent)
    refuses('failed-precondition', silent, { contentType: 'text/html' })
  })

  test('takes null for no layers', () => {
    assert.deepEqual(parse({ ...manifest, layers: null }), { kind: 'manifest', config, layers: [] })
  })

  test('refuses contradicting types (CVE-2021-41190)', () => {
    refuses('failed-precondition', manifest, { contentType: OCI_INDEX })
    refuses('failed-precondition', manifest, { contentType: DOCKER_MANIFEST })
    refuses('failed-precondition', manifest, { expectedType: OCI_INDEX })
    refuses('failed-precondition', { ...manifest, manifests: [] })
    refuses('failed-precondition', { ...index, layers: [] })
    refuses('failed-precondition', { ...index, config })
    refuses('failed-precondition', { ...manifest, fsLayers: [] })
  })

  test('says what is wrong with schema 1, however it is sent', () => {
    for (const contentType of [
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
      'application/json',
      undefined,
    ]) {
      assert.throws(
        () =>
          parse({ schemaVersion: 1, fsLayers: [], signatures: [] }, contentType === undefined ? {} : { contentType }),
        (error) => isKind(error, 'failed-precondition') && /schema 1.*push the image again/.test(error.message),
      )
    }
  })

  test('refuses schema 1', () => {
    refuses(
      'failed-precondition',
      { schemaVersion: 1, fsLayers: [] },
      { contentType: 'application/vnd.docker.distribution.manifest.v1+json' },
    )
    refuses('failed-precondition', { ...manifest, schemaVersion: 1 })
    refuses('failed-precondition', { ...manifest, schemaVersion: '2' })
  })

  for (const bad of [
    'sha256:../../x',
    `sha256:${'B'.repeat(64)}`,
    `sha256:${'b'.repeat(63)}`,
    `md5:${'b'.repeat(32)}`,
    '',
    null,
    [digest],
  ]) {
    test(`refuses the digest ${JSON.stringify(bad)} (CVE-2024-3727)`, () => {
      refuses('failed-precondition', { ...manifest, layers: [{ ...layer, digest: bad }] })
      refuses('failed-precondition', { ...manifest, config: { ...config, digest: bad } })
      refuses('failed-precondition', { ...index, manifests: [{ ...index.manifests[0], digest: bad }] })
    })
  }

  for (const size of [-1, 1.5, '12', 2 ** 60, null]) {
    test(`refuses the size ${JSON.stringify(size)}`, () =>
      refuses('failed-precondition', { ...manifest, layers: [{ ...layer, size }] }))
  }

  test('tells what is no image, and refuses unknown layers', () => {
    const other = { ...config, mediaType: 'application/vnd.oci.empty.v1+json' }
    assert.deepEqual(parse({ ...manifest, config: other }), { kind: 'other' })
    refuses('failed-precondition', { ...manifest, mediaType: DOCKER_MANIFEST, config: other })
    refuses('failed-precondition', { ...manifest, layers: [{ ...layer, mediaType: `${layer.mediaType}+sealed` }] })
  })

  test('limits layers, config and entries', () => {
    refuses('resource-exhausted', { ...manifest, layers: Array.from({ length: MAX_LAYERS + 1 }, () => layer) })
    refuses('resource-exhausted', { ...manifest, config: { ...config, size: 5 * 1024 * 1024 } })
    refuses('resource-exhausted', { ...index, manifests: Array.from({ length: 5000 }, () => index.manifests[0]) })
  })

  test('does not repeat hostile values in errors', () => {
    const evil = 'SECRET\u001b[31m'
    assert.throws(
      () => parse({ ...manifest, layers: [{ ...layer, size: evil, digest: evil }] }),
      (error) => error instanceof Error && !error.message.includes('SECRET'),
    )
  })
})
