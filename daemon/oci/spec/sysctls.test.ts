import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isKind } from '#proto/errors.ts'
import { podSysctls } from './sysctls.ts'

const OWN = { hostNetwork: false, hostIpc: false }
const invalid = (error: unknown) => isKind(error, 'invalid-argument')
const paths = (sysctls: Record<string, string>) => podSysctls(sysctls, OWN).map(({ path }) => path)

test('what lives in a namespace of the pod may be set, in either spelling', () => {
  assert.deepEqual(
    paths({
      'net.ipv4.ip_unprivileged_port_start': '0',
      'net/ipv4/conf/eth0.100/forwarding': '1',
      'net.ipv4.conf.eth0/200.forwarding': '1',
      'kernel.shm_rmid_forced': '1',
      'kernel.msgmax': '65536',
      'kernel.sem': '250\t32000 32 128',
      'fs.mqueue.msg_max': '100',
      'net.ipv4.ping_group_range': '0 2147483647',
    }),
    [
      '/proc/sys/net/ipv4/ip_unprivileged_port_start',
      '/proc/sys/net/ipv4/conf/eth0.100/forwarding',
      '/proc/sys/net/ipv4/conf/eth0.200/forwarding',
      '/proc/sys/kernel/shm_rmid_forced',
      '/proc/sys/kernel/msgmax',
      '/proc/sys/kernel/sem',
      '/proc/sys/fs/mqueue/msg_max',
      '/proc/sys/net/ipv4/ping_group_range',
    ],
  )
})

test('what belongs to the node is refused', () => {
  const keys = [
    'kernel.core_pattern',
    'kernel.domainname',
    'kernel.hostname',
    'vm.swappiness',
    'fs.file-max',
    'kernel.semaphore',
  ]
  for (const key of [
    ...keys,
    'kernel.shm',
    'kernel.shm.x',
    'fs.mqueue',
    'net',
    'netx.y',
    'kernel/core_pattern',
    'kernel.msg_/../x',
  ]) {
    assert.throws(() => podSysctls({ [key]: '1' }, OWN), invalid, key)
  }
})

test('cve-2022-0532: not in a namespace that the pod shares with the node', () => {
  for (const key of ['net.ipv4.ip_forward', 'net/ipv4/ip_forward', 'net.ipv4/ip_forward.x']) {
    assert.throws(() => podSysctls({ [key]: '0' }, { hostNetwork: true, hostIpc: false }), invalid, key)
  }
  for (const key of ['kernel.shmmax', 'kernel.sem', 'kernel.msgmni', 'fs.mqueue.msg_max', 'kernel/shmmax']) {
    assert.throws(() => podSysctls({ [key]: '0' }, { hostNetwork: false, hostIpc: true }), invalid, key)
  }
})

test('cve-2022-0811: neither key nor value can carry a second parameter', () => {
  const values = [
    '1+kernel.core_pattern=|/tmp/x',
    '1\nkernel.x=2',
    '1\0',
    '',
    '1=2',
    '../x',
    '/etc/x',
    'x'.repeat(1_000_000),
    'é',
  ]
  for (const value of values) assert.throws(() => podSysctls({ 'kernel.shm_rmid_forced': value }, OWN), invalid)
  const bad = [
    'net.ipv4.ip_forward\n',
    'net..ipv4',
    'net.',
    '.net',
    '-s',
    'net.ipv4.x=1',
    'net.ipv4,x',
    'net ipv4',
    'net/../kernel/x',
  ]
  for (const key of [...bad, 'net.ipv4.'.repeat(100_000)])
    assert.throws(() => podSysctls({ [key]: '1' }, OWN), invalid, key.slice(0, 50))
})

test('one parameter in two spellings is refused', () => {
  assert.throws(() => podSysctls({ 'net.ipv4.ip_forward': '0', 'net/ipv4/ip_forward': '1' }, OWN), invalid)
})

test('whatever is let through stays below the directory of its namespace', () => {
  const part = fc.stringMatching(/^[a-z0-9_./-]{0,12}$/)
  fc.assert(
    fc.property(fc.constantFrom('net', 'kernel', 'fs', 'vm'), part, part, (first, second, third) => {
      const key = `${first}.${second}/${third}`
      try {
        for (const { path } of podSysctls({ [key]: '1' }, OWN)) {
          assert.match(path, /^\/proc\/sys\/(net\/|kernel\/(sem$|shm|msg)|fs\/mqueue\/)/)
          assert.doesNotMatch(path, /\/\.{1,2}(\/|$)/)
        }
      } catch (error) {
        assert.ok(invalid(error), String(error))
      }
    }),
  )
})
