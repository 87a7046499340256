/** The crash story of images with its registry, signatures and policy, and the processes that tell it. For tests. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { archive, hardlink } from '#storage/tar/testing/tarsmith.ts'
import type { CrashStory } from '#storage/testing/crash-trial.ts'
import { type CrashScene, judgeCrashed, looksOf, tellCrashStory } from './crash-story.ts'
import { buildImage, buildLayer, layerOf } from './image-builder.ts'
import { TestRegistry } from './registry.ts'
import { claimOf, makeKey, signatureImage, signatureTag, signClaim } from './signer.ts'

const program = join(import.meta.dirname, 'child.ts')

/** @param t has everything removed in the end */
export const imageStory = async (t: { after(cleanUp: () => Promise<void>): void }): Promise<CrashStory> => {
  const registry = await TestRegistry.start()
  const directory = mkdtempSync(join(tmpdir(), 'crash-policy-'))
  t.after(async () => {
    await registry[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true })
  })
  const shared = await buildLayer({ 'etc/os': 'shared', 'bin/sh': 'x'.repeat(300_000) }, 'none')
  const [old, fresh] = [await buildLayer({ app: 'old' }), await buildLayer({ app: 'new', 'lib/a': 'y' })]
  const first = buildImage({ layers: [shared, old] })
  const second = buildImage({ layers: [shared, fresh, layerOf(archive(hardlink('sh', 'bin/sh')))] })
  const repository = `${registry.host}/app`
  const key = makeKey()
  const keyData = Buffer.from(key.pem).toString('base64')
  const signed = { type: 'sigstoreSigned', keyData, signedIdentity: { type: 'matchRepository' } }
  const policyFile = join(directory, 'policy.json')
  writeFileSync(
    policyFile,
    JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: { [repository]: [signed] } } }),
  )
  let told = new Set<string>()
  const scene: CrashScene = {
    policyFile,
    name: `${repository}:v1`,
    serve: async (what) => {
      const image = what === 'first' ? first : second
      const signatures = Array.from({ length: what.includes('again') ? 2 : 1 }, () =>
        signClaim(claimOf(repository, image.digest), key),
      )
      registry.add('app', image, 'v1')
      registry.add('app', signatureImage(signatures), signatureTag(image.digest))
    },
    told: async (what) => void told.add(what),
  }
  const mayMean = (): (string | undefined)[] => {
    if (told.has('pulled second')) return [second.id]
    if (told.has('pulling second')) return [first.id, second.id]
    return told.has('pulled first') ? [first.id] : [first.id, undefined]
  }
  let looks: Promise<string[]> | undefined
  return {
    inChild: async (root, what, point) => {
      if (what === 'story') told = new Set()
      const child = fork(program, [root, what, point, policyFile, scene.name], {
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      })
      child.on('message', (message: { serve?: Parameters<CrashScene['serve']>[0]; told?: string }) => {
        const done = message.serve === undefined ? scene.told(message.told ?? '') : scene.serve(message.serve)
        // Who has died meanwhile needs no answer.
        void done.then(() => child.connected && child.send({}, () => {}))
      })
      const [output, [, signal]] = await Promise.all([
        child.stdout === null ? '' : text(child.stdout),
        once(child, 'exit') as Promise<[number | null, string | null]>,
      ])
      if (signal === 'SIGKILL') return 'died'
      return JSON.parse(output) as string[]
    },
    judgeCrashed: (root) => judgeCrashed(root, scene, mayMean()),
    tell: (root) => tellCrashStory(root, scene),
    judge: async (root) => {
      looks ??= undisturbed(scene)
      const [wanted, found] = [await looks, await looksOf(root, scene)]
      return [
        ...wanted.filter((line) => !found.includes(line)).map((line) => `missing: ${line}`),
        ...found.filter((line) => !wanted.includes(line)).map((line) => `too much: ${line}`),
      ]
    },
  }
}

/** What is there after a story without a crash. */
const undisturbed = async (scene: CrashScene): Promise<string[]> => {
  const root = mkdtempSync(join(tmpdir(), 'crash-'))
  try {
    await tellCrashStory(root, scene)
    return await looksOf(root, scene)
  } finally {
    rmSync(root, { recursive: true })
  }
}
