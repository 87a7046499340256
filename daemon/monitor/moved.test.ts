/** A compiled monitor knows where it was compiled. On a node that is nobody's directory, or anybody's: nothing may be loaded from there. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { compiled, isBuilt } from './testing/rigs.ts'

test('a monitor that was moved loads native code from beside itself and from nowhere else', (t) => {
  if (!isBuilt(compiled)) return t.skip('dist lacks the executable')
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'cricket-moved-')))
  try {
    for (const part of ['bin', 'lib', 'link']) mkdirSync(join(dir, part))
    copyFileSync(compiled.path, join(dir, 'bin/conmon'))
    symlinkSync('../bin/conmon', join(dir, 'link/conmon'))
    const complaint = () => spawnSync(join(dir, 'link/conmon'), [join(dir, 'none')], { encoding: 'utf8' }).stderr
    const addon = join(dir, 'lib/sys.node')
    assert.match(complaint(), new RegExp(`native addon is missing, looked for it at "${addon}"`))
    copyFileSync(join(dirname(compiled.path), '../lib/sys.node'), addon)
    assert.match(complaint(), /none\/options\.json/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
