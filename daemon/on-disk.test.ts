/** docs/on-disk.md names everything that the programs keep on disk. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { layoutOf, manifestIn, recordIn, treeIn, upperIn, workIn } from '#storage/layout.ts'
import { pathsUnder } from './paths.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/on-disk.md'), 'utf8')

const missing = (names: readonly string[]): string[] =>
  names.filter((name) => !new RegExp(`[\`/]${name.replaceAll('.', '\\.')}[\`/]`).test(page))

test('the page has every place of the storage', () => {
  const places = Object.values(layoutOf('/storage')).filter((path) => path !== '/storage')
  assert.deepEqual(missing([...new Set(places.map((path) => path.slice(1)))]), [])
  assert.deepEqual(missing([manifestIn, recordIn, treeIn, upperIn, workIn].map((of) => of(''))), [])
})

test('the page has no place of the storage that is not there', () => {
  const places = new Set(Object.values(layoutOf('/storage')).map((path) => path.split('/')[2]))
  const named = [...page.matchAll(/^\| `storage\/([\w.-]+)/gm)].map(([, name]) => name)
  assert.ok(named.length > 10)
  assert.deepEqual(
    named.filter((name) => !places.has(name)),
    [],
  )
})

test('the page has every place of the daemon', () => {
  const { sandbox: _, container: __, ...paths } = pathsUnder('/root', '/state')
  const names = Object.values(paths).map((path) => path.replace(/^\/(root|state)\//, ''))
  assert.deepEqual(missing([...new Set(names)]), [])
})
