import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { type DeepPartial, LinuxContainerSecurityContext } from '#proto/generated/api.ts'
import { containerUser } from './user.ts'

const passwd = [
  'root:x:0:0:root:/root:/bin/sh',
  'app:x:1000:1001::/home/app:/bin/sh',
  '4294967296:x:0:0::/evil:/bin/sh',
  '1234:x:0:0::/evil:/bin/sh',
  'wrapped:x:4294967296:4294967296::/:/bin/sh',
  'negative:x:-1:-1::/:/bin/sh',
  'short:x:5',
  'oddhome:x:7:7::/x\r/etc:/bin/sh',
  'relative:x:8:8::home:/bin/sh',
].join('\n')
const group = ['root:x:0:', 'audio:x:29:app,root', 'staff:x:50:other, app', 'huge:x:4294967296:app', '0x:x:1:'].join(
  '\n',
)

const user = (security: DeepPartial<LinuxContainerSecurityContext> | undefined, imageUser = '') =>
  containerUser({
    security: security && LinuxContainerSecurityContext.fromPartial(security),
    imageUser,
    passwd,
    group,
  })

const invalid = (error: unknown) => isKind(error, 'invalid-argument')
const failed = (error: unknown) => isKind(error, 'failed-precondition')

test('the user of the image: nobody said, an id, a name, each with or without a group', () => {
  const of = (imageUser: string) => {
    const { uid, gid, supplementalGroups } = user(undefined, imageUser)
    return [uid, gid, ...supplementalGroups]
  }
  assert.deepEqual(of(''), [0, 0, 0, 29])
  assert.deepEqual(of('0'), [0, 0, 0, 29])
  assert.deepEqual(of('1000'), [1000, 1001, 1001, 29, 50])
  assert.deepEqual(of('app'), [1000, 1001, 1001, 29, 50])
  assert.deepEqual(of('app:audio'), [1000, 29, 29, 50])
  assert.deepEqual(of('app:7'), [1000, 7, 7, 29, 50])
  assert.deepEqual(of('77'), [77, 0, 0])
  assert.deepEqual(of('007'), [7, 7, 7])
})

test('cve-2026-46680: a user made of digits is an id and never a name', () => {
  assert.equal(user(undefined, '1234').uid, 1234)
  assert.throws(() => user(undefined, '4294967296'), failed)
  assert.throws(() => user({ runAsUsername: '4294967296' }), failed)
})

test('users and groups that are out of range or malformed are refused', () => {
  const images = ['2147483648', '4294967295', '18446744073709551616', '-1', '0x0', '0b0', '1e3', ' 0', '0 ', '+0', '１']
  for (const bad of [
    ...images,
    '1000abc',
    ':0',
    '0:',
    'a:b:c',
    'app:4294967296',
    'app:nobody',
    'wrapped',
    'negative',
    'short',
  ]) {
    assert.throws(() => user(undefined, bad), failed, bad)
  }
  for (const value of [-1n, 2147483648n, 4294967295n, 4294967296n, 2n ** 63n - 1n]) {
    assert.throws(() => user({ runAsUser: { value } }), invalid)
    assert.throws(() => user({ runAsUser: { value: 1n }, runAsGroup: { value } }), invalid)
    assert.throws(() => user({ supplementalGroups: [value] }), invalid)
  }
})

test('the request wins over the image, and contradicts itself at its peril', () => {
  assert.deepEqual(user({ runAsUser: { value: 1000n } }, 'root:root'), {
    uid: 1000,
    gid: 1001,
    supplementalGroups: [1001, 29, 50],
    home: '/home/app',
  })
  assert.throws(() => user({ runAsUser: { value: 1n }, runAsUsername: 'app' }), invalid)
  assert.throws(() => user({ runAsGroup: { value: 1n } }), invalid)
  assert.throws(() => user({ runAsUsername: 'nobody-here' }), failed)
})

test('Strict knows only the groups of the request; the primary group is always among them', () => {
  const strict = user({ runAsUsername: 'app', supplementalGroups: [7n, 1001n], supplementalGroupsPolicy: 1 })
  assert.deepEqual(strict.supplementalGroups, [1001, 7])
})

test('cve-2022-4318: a home directory with control characters is not used', () => {
  assert.equal(user(undefined, 'oddhome').home, '/')
  assert.equal(user(undefined, 'relative').home, '/')
  assert.equal(user(undefined, 'app').home, '/home/app')
})

test('an image without account files knows ids but no names', () => {
  const bare = (imageUser: string) => containerUser({ security: undefined, imageUser })
  assert.deepEqual(bare('5:6'), { uid: 5, gid: 6, supplementalGroups: [6], home: '/' })
  assert.throws(() => bare('root'), failed)
})
