import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { chainId } from './chain-id.ts'
import { detectCompression } from './compression.ts'
import { digestOf, parseDiffId, parseDigest } from './digest.ts'

const a = parseDiffId(`sha256:${'a'.repeat(64)}`)
const b = parseDiffId(`sha256:${'b'.repeat(64)}`)
const c = parseDiffId(`sha256:${'c'.repeat(64)}`)

describe('parseDigest()', () => {
  it('takes sha256 and sha512', () => {
    assert.equal(parseDigest(a), a)
    assert.ok(parseDigest(`sha512:${'0'.repeat(128)}`))
  })

  it('refuses everything else (CVE-2024-3727)', () => {
    const hex = 'a'.repeat(64)
    const bad = [
      '',
      'sha256',
      'sha256:',
      `sha256:${hex}0`,
      `sha256:${hex.slice(1)}`,
      `sha256:${hex.toUpperCase()}`,
      hex,
    ]
    const worse = [
      `md5:${'a'.repeat(32)}`,
      `sha1:${'a'.repeat(40)}`,
      `sha512:${hex}`,
      `sha256:${hex}\n`,
      `sha256:${hex}\0`,
    ]
    const paths = ['sha256:../../x', `sha256:..%2f..${hex.slice(8)}`, `sha256:../${hex.slice(3)}`, `SHA256:${hex}`]
    for (const text of [...bad, ...worse, ...paths])
      assert.throws(
        () => parseDigest(text),
        (error) => isKind(error, 'invalid-argument'),
        text,
      )
  })
})

describe('chainId()', () => {
  it('is the diff id for one layer and undefined for none', () => {
    assert.equal(chainId([a]), a)
    assert.equal(chainId([]), undefined)
  })

  it('hashes what is below with each further layer', () => {
    const two = digestOf(`${a} ${b}`)
    assert.equal(chainId([a, b]), two)
    assert.equal(chainId([a, b, c]), digestOf(`${two} ${c}`))
    assert.notEqual(chainId([b, a]), two)
  })
})

describe('detectCompression()', () => {
  it('goes by the first bytes', () => {
    assert.equal(detectCompression(Buffer.from([0x1f, 0x8b, 8, 0])), 'gzip')
    assert.equal(detectCompression(Buffer.from([0x28, 0xb5, 0x2f, 0xfd])), 'zstd')
    assert.equal(detectCompression(Buffer.from([0x5c, 0x2a, 0x4d, 0x18])), 'zstd')
    assert.equal(detectCompression(Buffer.from('etc/')), 'none')
    assert.equal(detectCompression(Buffer.alloc(0)), 'none')
    assert.equal(detectCompression(Buffer.from([0x1f])), 'none')
  })
})
