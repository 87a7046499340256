import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { followLinks } from './follow-links.ts'
import { resolveApart } from './resolve-apart.ts'

const NONE: ReadonlyMap<string, string> = new Map()

function makeTree(t: TestContext): string {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'links-')))
  t.after(() => rmSync(root, { recursive: true }))
  mkdirSync(join(root, 'a/b/c'), { recursive: true })
  writeFileSync(join(root, 'a/file'), '')
  symlinkSync('a/b', join(root, 'relative'))
  symlinkSync(join(root, 'relative/c'), join(root, 'absolute'))
  symlinkSync('../../a/./b/..', join(root, 'a/b/up'))
  symlinkSync('loop', join(root, 'loop'))
  return root
}

test('a path is followed as the kernel follows it', async (t) => {
  const root = makeTree(t)
  for (const path of [
    'a/b',
    'relative/c',
    'absolute',
    'absolute/..',
    'a/b/up/b/c',
    'a//b/./c',
    'a/file',
    '../../../..',
  ]) {
    const expected = realpathSync.native(`${root}/${path}`)
    assert.deepEqual(await followLinks(`${root}/${path}`, NONE), { is: 'found', path: expected }, path)
  }
})

test('what the kernel refuses is refused as it does', async (t) => {
  const root = makeTree(t)
  for (const [path, code] of [
    ['a/none', 'ENOENT'],
    ['a/file/below', 'ENOTDIR'],
    ['loop', 'ELOOP'],
  ] as const) {
    assert.throws(() => realpathSync.native(join(root, path)), { code })
    await assert.rejects(followLinks(join(root, path), NONE), { code })
  }
})

test('a mount that may not answer ends it, however it is reached, and nothing behind it is looked at', async (t) => {
  const root = makeTree(t)
  const mountpoint = join(root, 'a/b')
  const foreign = new Map([[mountpoint, 'nfs4']])
  const beyond = (path: string) => ({ is: 'beyond', path, mountpoint })
  assert.deepEqual(await followLinks(mountpoint, foreign), beyond(mountpoint))
  assert.deepEqual(
    await followLinks(join(root, 'relative/none/at all'), foreign),
    beyond(join(mountpoint, 'none/at all')),
  )
  assert.deepEqual(await followLinks(`${root}/absolute/..`, foreign), beyond(`${mountpoint}/c/..`))
  assert.deepEqual(await followLinks(join(root, 'a/file'), foreign), { is: 'found', path: join(root, 'a/file') })
})

test('the helper answers in order, makes what may be made, and says why not', async (t) => {
  const root = makeTree(t)
  const [link, made, missing] = await resolveApart([
    { path: join(root, 'relative'), mayMake: false },
    { path: join(root, 'new/one'), mayMake: true },
    { path: join(root, 'none'), mayMake: false },
  ])
  assert.deepEqual(link, { path: join(root, 'a/b') })
  assert.deepEqual(made, { path: join(root, 'new/one') })
  assert.match(missing && 'error' in missing ? missing.error : '', /ENOENT/)
})
