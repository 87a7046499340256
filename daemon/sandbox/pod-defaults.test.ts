import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { defaultConfig } from '../config/load.ts'
import { UNKNOWN_FEATURES } from '../oci/runtime-features.ts'
import { shmBytes, sysctlsOf } from './pod-defaults.ts'

const MIB = 1024 * 1024
const { sandbox } = defaultConfig()
const handler = { name: 'runc', path: '/runc', root: '/r', features: UNKNOWN_FEATURES, createTimeoutSeconds: 240 }
const allowing = { ...handler, allowedAnnotations: ['io.cricket.shm-size'] }
const asking = (size: string, name = 'io.cricket.shm-size') =>
  PodSandboxConfig.fromPartial({ annotations: { [name]: size } })

test('/dev/shm is 64 MiB, as configured, or as an allowed annotation says', () => {
  assert.equal(shmBytes(asking('1Gi'), sandbox, handler), 64 * MIB)
  assert.equal(shmBytes(asking('1Gi'), { ...sandbox, shmMiB: 7 }, handler), 7 * MIB)
  assert.equal(shmBytes(asking('1Gi'), sandbox, allowing), 1024 * MIB)
  assert.equal(shmBytes(asking('8Mi', 'shm-size.crio.io'), sandbox, allowing), 8 * MIB)
  assert.equal(shmBytes(PodSandboxConfig.create(), sandbox, allowing), 64 * MIB)
})

test('a size that is none, or that no file system can have, is refused', () => {
  for (const size of ['', '64 Mi', 'lots', '-1Mi', '0', '1', '1e300', '64Mi,mode=777']) {
    assert.throws(
      () => shmBytes(asking(size), sandbox, allowing),
      (error) => isKind(error, 'invalid-argument') && error.message.includes(JSON.stringify(size)),
    )
  }
})

test('configured parameters hold for the namespaces that the pod has, and the pod’s own win', () => {
  const configured = { 'net.ipv4.ip_unprivileged_port_start': '1024', 'kernel.shmmni': '99' }
  const own = PodSandboxConfig.fromPartial({ linux: { sysctls: { 'kernel.shmmni': '5' } } })
  const last = (config: PodSandboxConfig) =>
    Object.fromEntries(sysctlsOf(config, configured).map(({ name, value }) => [name, value]))
  assert.equal(last(own)['net.ipv4.ip_unprivileged_port_start'], '1024')
  assert.equal(last(own)['kernel.shmmni'], '5')
  const onHost = PodSandboxConfig.fromPartial({
    linux: { securityContext: { namespaceOptions: { network: NamespaceMode.NODE, ipc: NamespaceMode.NODE } } },
  })
  assert.deepEqual(last(onHost), {})
})
