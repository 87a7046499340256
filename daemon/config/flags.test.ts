import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseFlags } from './flags.ts'

test('parseFlags() reads "--root X" and "--root=X" alike, the last one wins', () => {
  const expected = { root: '/b', state: '/s', listen: 'unix:///l', logLevel: 'debug', config: '/c' }
  const spaced = [
    '--root',
    '/a',
    '--root',
    '/b',
    '--state',
    '/s',
    '--listen',
    'unix:///l',
    '--log-level',
    'debug',
    '--config',
    '/c',
  ]
  assert.deepEqual(parseFlags(spaced).flags, expected)
  const joined = ['--root=/b', '--state=/s', '--listen=unix:///l', '--log-level=debug', '--config=/c']
  assert.deepEqual(parseFlags(joined).flags, expected)
})

test('parseFlags() keeps an "=" that belongs to the value', () => {
  assert.equal(parseFlags(['--root=/a=b']).flags.root, '/a=b')
})

test('parseFlags() reports everything it does not understand at once', () => {
  const args = ['--rot', '/x', '--state=', '-r', '--default=yes', 'stray']
  assert.throws(
    () => parseFlags(args, { switches: ['default'] }),
    (error) => {
      assert.ok(isKind(error, 'invalid-argument'))
      for (const part of [
        '"--rot"',
        '--state needs a value',
        '"-r"',
        '--default takes no value',
        '"stray"',
        '--log-level',
      ]) {
        assert.ok(error.message.includes(part), `${part} in ${error.message}`)
      }
      return true
    },
  )
})

test('parseFlags() refuses a flag whose value is missing', () => {
  assert.throws(() => parseFlags(['--root']), { kind: 'invalid-argument', message: /--root needs a value/ })
  assert.throws(() => parseFlags(['--config', '--root', '/x']), { message: /--config needs a value/ })
})

test('parseFlags() gives switches and words to the commands that allow them', () => {
  const read = parseFlags(['--default', 'one', 'two'], { switches: ['default'], positionals: 2 })
  assert.ok(read.switches.has('default'))
  assert.deepEqual(read.positionals, ['one', 'two'])
  assert.throws(() => parseFlags(['one'], {}), { message: /unexpected word "one"/ })
})

test('parseFlags() gives values to the command that asks for them, and to no other', () => {
  const read = parseFlags(['load', '--name', 'app:1', '--pin', 'x.tar'], {
    switches: ['pin'],
    values: ['name'],
    positionals: 2,
  })
  assert.deepEqual([read.values, [...read.switches], read.positionals], [{ name: 'app:1' }, ['pin'], ['load', 'x.tar']])
  assert.throws(() => parseFlags(['--name'], { values: ['name'] }), { message: /--name needs a value/ })
  assert.throws(() => parseFlags(['--name', 'x']), { message: /unknown flag "--name"/ })
})
