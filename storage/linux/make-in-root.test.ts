/** Directories made in a hostile tree stay in it. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isErrno } from './errno.ts'
import { makeDirectoriesInRoot } from './make-in-root.ts'

const top = mkdtempSync(join(tmpdir(), 'cricket-in-root-'))
after(() => rmSync(top, { recursive: true, force: true }))
const skip = process.getuid?.() === 0 ? false : 'host lacks root'

test('makes what is missing, follows links inside the root, and touches nothing outside', { skip }, () => {
  const root = join(top, 'root')
  mkdirSync(join(root, 'real'), { recursive: true, mode: 0o700 })
  mkdirSync(join(top, 'outside'))
  writeFileSync(join(root, 'file'), '')
  symlinkSync('/real', join(root, 'absolute'))
  symlinkSync('../../../../outside', join(root, 'escape'))
  symlinkSync('nowhere', join(root, 'dangling'))
  assert.deepEqual(makeDirectoriesInRoot(root, '/a/b/c', { uid: 12, gid: 34 }), { mode: 0o755, uid: 12, gid: 34 })
  assert.equal(statSync(join(root, 'a')).uid, 12)
  assert.equal(makeDirectoriesInRoot(root, '/real').mode, 0o700)
  makeDirectoriesInRoot(root, '/absolute/new')
  assert.ok(statSync(join(root, 'real/new')).isDirectory())
  assert.throws(
    () => makeDirectoriesInRoot(root, '/escape/new'),
    (error) => isErrno(error, 'EEXIST'),
  )
  assert.throws(
    () => makeDirectoriesInRoot(root, '/dangling'),
    (error) => isErrno(error, 'EEXIST'),
  )
  assert.throws(
    () => makeDirectoriesInRoot(root, '/file/x'),
    (error) => isErrno(error, 'ENOTDIR'),
  )
  assert.deepEqual(readdirSync(join(top, 'outside')), [])
})
