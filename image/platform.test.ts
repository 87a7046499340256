import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { digestOf } from '#storage/digest.ts'
import type { IndexEntry, Platform } from './manifest.ts'
import { OCI_MANIFEST } from './media-types.ts'
import { choosePlatform, fitsHost, hostPlatform, platformText } from './platform.ts'

const platform = (text: string): Platform => {
  const [os = '', architecture = '', variant] = text.split('/')
  return { os, architecture, ...(variant && { variant }) }
}
const entry = (text: string | undefined): IndexEntry => ({
  mediaType: OCI_MANIFEST,
  digest: digestOf(text ?? ''),
  size: 1,
  ...(text && { platform: platform(text) }),
})
const choose = (host: string, offered: (string | undefined)[]): string => {
  const chosen = choosePlatform({ kind: 'index', entries: offered.map(entry) }, platform(host), 'Image')
  return platformText(chosen.platform ?? undefined)
}

suite('platform', () => {
  const cases: [host: string, offered: (string | undefined)[], chosen: string][] = [
    ['linux/amd64', ['linux/arm64', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', ['linux/amd64/v3', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', ['linux/amd64/v2', 'linux/amd64/v1'], 'linux/amd64/v1'],
    ['linux/amd64', ['windows/amd64', 'unknown/unknown', 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', [undefined, 'linux/amd64'], 'linux/amd64'],
    ['linux/amd64', ['linux/arm64', undefined], 'unnamed'],
    ['linux/arm64/v8', ['linux/arm64', 'linux/arm64/v8'], 'linux/arm64/v8'],
    ['linux/arm64/v8', ['linux/arm64/v9', 'linux/arm64'], 'linux/arm64'],
    ['linux/arm/v7', ['linux/arm/v5', 'linux/arm/v6', 'linux/arm64'], 'linux/arm/v6'],
    ['linux/arm/v6', ['linux/arm/v7', 'linux/arm/v5'], 'linux/arm/v5'],
  ]
  for (const [host, offered, chosen] of cases) {
    test(`${host} takes ${chosen} out of ${offered.join(', ')}`, () => assert.equal(choose(host, offered), chosen))
  }

  test('refuses when nothing can run here', () => {
    for (const offered of [[], ['linux/arm64'], ['linux/amd64/v3'], ['linux/386'], ['unknown/unknown']]) {
      assert.throws(
        () => choose('linux/amd64', offered),
        (error) => isKind(error, 'failed-precondition'),
      )
    }
  })

  test('this host has a name and runs its own images', () => {
    const host = hostPlatform()
    assert.equal(host.os, 'linux')
    assert.ok(fitsHost(host.architecture, 'linux', host))
    assert.ok(fitsHost('', '', host))
    assert.ok(!fitsHost('other', 'linux', host))
    assert.ok(!fitsHost('', 'windows', host))
  })
})
