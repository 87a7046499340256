/** Settings of the kernel and annotations that would reach it or the runtime (A1 to A4, A15). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, it } from 'node:test'
import { type DeepPartial, NamespaceMode, type PodSandboxConfig } from '#proto/generated/api.ts'
import { FAILED_PRECONDITION, INVALID_ARGUMENT, refused, useAttacks } from './attack.ts'

describe('hostile sysctls:', () => {
  const attacks = useAttacks()
  const { attempt, image, pod } = attacks
  const isV2 = existsSync('/sys/fs/cgroup/cgroup.controllers')

  const podLinux = (sysctls: Record<string, string>, namespaceOptions: object = {}): DeepPartial<PodSandboxConfig> => ({
    linux: {
      cgroupParent: attacks.world.site.cgroupParent,
      sysctls,
      securityContext: { namespaceOptions: { pid: NamespaceMode.CONTAINER, ...namespaceOptions } },
    },
  })

  it('A1: sysctls that smuggle others are refused', async () => {
    const pairs: [string, string][] = [
      ['kernel.shm_rmid_forced', '1+kernel.core_pattern=|/tmp/x'],
      ['kernel.shm_rmid_forced', '1\nkernel.core_pattern=|/tmp/x'],
      ['kernel.shm_rmid_forced', '1\0'],
      ['kernel.shm_rmid_forced', '9'.repeat(1 << 20)],
      ['kernel.core_pattern', '|/tmp/x'],
      ['kernel.shm_rmid_forced=1,kernel.core_pattern', 'x'],
      ['kernel/../kernel/core_pattern', 'x'],
      ['net.ipv4/../../kernel/core_pattern', 'x'],
      ['net/../kernel/core_pattern', 'x'],
      ['net.ipv4.ip_forward\n', '1'],
      ['-s', '1'],
      ['vm.swappiness', '1'],
      ['', ''],
    ]
    for (const [key, value] of pairs)
      refused(await pod(podLinux({ [key]: value })), INVALID_ARGUMENT, /^sysctls (has the key|")/, JSON.stringify(key))
  })

  it('A2: sysctls of the node are refused when the pod shares its namespaces', async () => {
    for (const key of ['net.ipv4.ip_forward', 'net/ipv4/ip_forward', 'net.ipv4/ip_forward']) {
      refused(
        await pod(podLinux({ [key]: '0' }, { network: NamespaceMode.NODE })),
        INVALID_ARGUMENT,
        /not allowed with the network of the node/,
        key,
      )
    }
    for (const key of ['kernel.shmmax', 'kernel/shmmax', 'fs.mqueue.msg_max', 'kernel.sem', 'kernel.msgmax']) {
      refused(
        await pod(podLinux({ [key]: '1' }, { ipc: NamespaceMode.NODE })),
        INVALID_ARGUMENT,
        /not allowed with the IPC namespace of the node/,
        key,
      )
    }
  })

  it('A3, A4: annotations of pod and container never reach the runtime', async () => {
    const annotations = {
      'org.systemd.property.SuccessAction': "'poweroff'",
      'run.oci.hooks.stderr': '/etc/x',
      'org.criu.config': '/evil',
      'module.wasm.image/variant': 'compat',
      bundle: '/evil',
      'io.kubernetes.cri.container-type': 'sandbox',
      'io.kubernetes.cri-o.UnifiedCgroup.main': 'memory.max=max;cgroup.procs=1',
      'io.kubernetes.cri-o.unifiedcgroup.main': 'memory.max=max',
    }
    const { error, spec } = await attempt({ sandbox: { annotations }, config: { annotations } })
    assert.equal(error, undefined)
    assert.equal(spec.annotations['io.kubernetes.cri.container-type'], 'container')
    const names = Object.keys(spec.annotations)
    assert.deepEqual(
      names.filter((name) => !/^io\.(cricket\.|kubernetes\.cri\.)/.test(name)),
      [],
    )
    assert.equal(spec.linux.resources.unified, undefined)
    const unified = { 'cgroup.procs': '1' }
    const code = isV2 ? INVALID_ARGUMENT : FAILED_PRECONDITION
    refused(await attempt({ config: { linux: { resources: { unified } } } }), code, /unified/)
  })

  it('A15: labels stay labels', async () => {
    const Labels = {
      'containerd.io/restart.loguri': 'binary:///bin/sh',
      'io.kubernetes.cri.container-type': 'sandbox',
      'cdi.k8s.io/x': 'v.com/c=d',
      'org.systemd.property.X': '1',
      'io.cricket.sandbox-id': 'evil',
    }
    const { spec, error } = await attempt({ image: await image([], { Labels }) })
    assert.equal(error, undefined)
    assert.equal(JSON.stringify(spec).includes('binary:///'), false)
    assert.equal(JSON.stringify(spec.annotations).includes('evil'), false)
    assert.equal(spec.annotations['io.kubernetes.cri.container-type'], 'container')
  })
})
