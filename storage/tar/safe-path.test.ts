import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { baseOf, join, parentOf, pathInLayer } from './safe-path.ts'
import { markerOf } from './whiteout.ts'

const refused = (error: unknown): boolean => isKind(error, 'failed-precondition')

describe('pathInLayer()', () => {
  it('drops slashes and dots that mean nothing', () => {
    for (const name of ['a/b', '/a/b', './a/b', 'a//b', 'a/./b', 'a/b/', '././a/b/.', '//a///b//'])
      assert.equal(pathInLayer(name), 'a/b', name)
    for (const name of ['.', './', '/', '//', './.', '/./']) assert.equal(pathInLayer(name), '', name)
  })

  it('keeps names that only look special', () => {
    for (const name of ['...', 'a..b', '..a', 'a/...', '.a', 'a.', 'a\\..\\b', ' ', '~', '\xff'])
      assert.equal(pathInLayer(name), name)
  })

  it('refuses to go upwards, and what no file system could hold', () => {
    const bad = ['', '..', '../a', 'a/..', 'a/../b', '/..', './..', '..//', 'a\0b', '\0', 'x'.repeat(256)]
    for (const name of [...bad, `a/${'x'.repeat(256)}/b`, 'ab/'.repeat(2000)])
      assert.throws(() => pathInLayer(name), refused, name)
  })

  it('gives nothing but plain components, whatever the name', () => {
    const part = fc.constantFrom('', '.', '..', '...', 'a', 'b.', '\0', 'x'.repeat(300), '.wh.a', '\\')
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        try {
          const path = pathInLayer(parts.join('/'))
          if (path === '') return
          for (const component of path.split('/'))
            assert.ok(!['', '.', '..'].includes(component) && !component.includes('\0'))
          assert.equal(join(parentOf(path), baseOf(path)), path)
        } catch (error) {
          assert.ok(refused(error), String(error))
        }
      }),
    )
  })
})

describe('markerOf()', () => {
  const mark = (name: string) => markerOf(pathInLayer(name))

  it('knows whiteouts, opaque directories and the bookkeeping of AUFS', () => {
    assert.deepEqual(mark('a/.wh.b'), { what: 'whiteout', target: 'a/b' })
    assert.deepEqual(mark('.wh.b'), { what: 'whiteout', target: 'b' })
    assert.deepEqual(mark('a/.wh..wh..opq'), { what: 'opaque', directory: 'a' })
    assert.deepEqual(mark('.wh..wh..opq'), { what: 'opaque', directory: '' })
    assert.deepEqual(mark('.wh..wh.plnk/1.2'), { what: 'ignored' })
    assert.deepEqual(mark('a/.wh..wh.aufs'), { what: 'ignored' })
  })

  it('takes other names for names', () => {
    for (const name of ['a', 'a.wh.b', 'wh.a', '.whx', 'a/.wh']) assert.deepEqual(mark(name), { what: 'none' }, name)
  })

  it('refuses whiteouts of nothing and entries below one', () => {
    for (const name of ['.wh.', '.wh..', '.wh...', 'a/.wh.', '.wh.a/b', 'a/.wh.b/.wh.c'])
      assert.throws(() => mark(name), refused, name)
  })
})
