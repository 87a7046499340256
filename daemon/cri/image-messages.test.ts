import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RunnableImage } from '#image/image-store.ts'
import { imageMessage } from './image-messages.ts'

const config = {
  env: [],
  entrypoint: [],
  cmd: [],
  workingDir: '',
  stopSignal: '',
  labels: {},
  volumes: [],
  exposedPorts: [],
  architecture: 'amd64',
  os: 'linux',
}

const messageFor = (user: string, pinned = false) => {
  const common = { repoTags: ['a:1'], repoDigests: [], sizeBytes: 7n, diffIds: [], layerBlobs: [], pinned: false }
  const image = { kind: 'image', ...common, config: { ...config, user }, pulledAt: '2026-01-01T00:00:00Z' }
  return imageMessage(Object.assign(Object.create(null) as RunnableImage, image, { id: 'sha256:1' }), pinned)
}

test("an image's user is a number or a name, never both, and its group is left out", () => {
  const users: [written: string, uid: bigint | undefined, username: string][] = [
    ['', undefined, ''],
    ['0', 0n, ''],
    ['1000:1000', 1000n, ''],
    ['1000:app', 1000n, ''],
    ['app', undefined, 'app'],
    ['app:0', undefined, 'app'],
    [':5', undefined, ''],
    ['1000x', undefined, '1000x'],
    ['-1', undefined, '-1'],
  ]
  for (const [written, uid, username] of users) {
    const message = messageFor(written)
    assert.deepEqual([message.uid?.value, message.username], [uid, username], written)
  }
})

test('whether an image is pinned is said by the configuration of now', () => {
  assert.equal(messageFor('').pinned, false)
  assert.equal(messageFor('', true).pinned, true)
})
