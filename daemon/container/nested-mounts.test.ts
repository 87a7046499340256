/** Which mounts lie in others, and which of them are left to the OCI runtime; their use: `e2e/nested-mounts.test.ts`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ContainerConfig, type DeepPartial, type Mount, MountPropagation } from '#proto/generated/api.ts'
import { findNestedMounts } from './nested-mounts.ts'

const find = (mounts: DeepPartial<Mount>[], others: string[] = [], unfit = -1) =>
  findNestedMounts(ContainerConfig.fromPartial({ mounts }), { others, unfit: (index) => index === unfit })
const at = (containerPath: string, rest: DeepPartial<Mount> = {}): DeepPartial<Mount> => ({ containerPath, ...rest })

test('what lies in another mount is found with the outermost one, outer ones first', () => {
  const { holders, nested } = find([
    at('/v/a/b/c'),
    at('/other'),
    at('/v/'),
    at('/v/a', { readonly: true }),
    at('/vv/a'),
  ])
  assert.deepEqual([...holders], [2])
  assert.deepEqual(nested, [
    { index: 3, holder: 2, path: 'a', mayMake: true },
    { index: 0, holder: 2, path: 'a/b/c', mayMake: false },
  ])
})

test('of several mounts at one place the last one counts', () => {
  const { nested } = find([at('/v'), at('/v/a'), at('/v'), at('/v/a')])
  assert.deepEqual(
    nested.map(({ index, holder }) => [index, holder]),
    [[3, 2]],
  )
})

test('what others mount in between, what the node shall see, and the trees of the runtime are left to it', () => {
  const bidirectional = { propagation: MountPropagation.PROPAGATION_BIDIRECTIONAL }
  assert.deepEqual(find([at('/v'), at('/v/own/a')], ['/v/own']).nested, [])
  assert.deepEqual(find([at('/v'), at('/v/a'), at('/v/a/b')], [], 1).nested, [])
  assert.deepEqual(find([at('/v', bidirectional), at('/v/a')]).nested, [])
  assert.deepEqual(find([at('/v'), at('/v/a', bidirectional)]).nested, [])
  assert.deepEqual(find([at('/dev'), at('/dev/a')]).nested, [])
})
