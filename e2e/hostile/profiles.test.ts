/** Confinements that cannot be had never mean none (A13). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { NamespaceMode, SecurityProfile_ProfileType } from '#proto/generated/api.ts'
import { FAILED_PRECONDITION, INVALID_ARGUMENT, refused, security, useAttacks } from './attack.ts'

describe('hostile profiles:', () => {
  const attacks = useAttacks({ sections: { container: { requireSelinux: true } } })
  const { attempt, world } = attacks

  it('A13: a seccomp profile that cannot be had never means none', async () => {
    const dir = world.site.path('profiles')
    mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, 'bad.json'), '{')
    writeFileSync(join(dir, 'unknown.json'), '{"defaultAction":"SCMP_ACT_PRETEND"}')
    writeFileSync(join(dir, 'large.json'), ' '.repeat(2 << 20))
    execFileSync('mkfifo', [join(dir, 'fifo.json')])
    const refs: [string, typeof INVALID_ARGUMENT | typeof FAILED_PRECONDITION, RegExp][] = [
      ['', INVALID_ARGUMENT, /Localhost profile without a name/],
      ['localhost/', INVALID_ARGUMENT, /Localhost profile without a name/],
      ['../../x', INVALID_ARGUMENT, /has ".." in it/],
      ['relative', INVALID_ARGUMENT, /not an absolute path/],
      ['/no/such/profile', FAILED_PRECONDITION, /does not exist/],
      [dir, FAILED_PRECONDITION, /not a regular file/],
      ['/dev/zero', FAILED_PRECONDITION, /not a regular file/],
      [join(dir, 'fifo.json'), FAILED_PRECONDITION, /not a regular file/],
      [join(dir, 'bad.json'), FAILED_PRECONDITION, /is not JSON/],
      [join(dir, 'unknown.json'), FAILED_PRECONDITION, /defaultAction: Invalid option/],
      [join(dir, 'large.json'), FAILED_PRECONDITION, /larger than 1048576 bytes/],
    ]
    for (const [localhostRef, code, text] of refs) {
      const seccomp = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef }
      refused(await attempt({ config: security({ seccomp }) }), code, text, localhostRef)
    }
    const { spec } = await attempt({ config: security({ seccomp: { profileType: 0 } }) })
    assert.ok(spec.linux.seccomp)
    rmSync(dir, { recursive: true })
  })

  it('A13: AppArmor that the node does not have refuses the container, and SELinux where it is required', async (t) => {
    const { info } = await world.cri.runtime.status({ verbose: true })
    const host: { apparmor: boolean; selinux: boolean } = JSON.parse(info.host ?? '{}')
    if (host.apparmor || host.selinux) return t.skip('host has AppArmor or SELinux')
    const apparmor = { profileType: SecurityProfile_ProfileType.Localhost, localhostRef: 'not-loaded' }
    refused(
      await attempt({ config: security({ apparmor }) }),
      FAILED_PRECONDITION,
      /AppArmor is not enabled on this host/,
    )
    refused(
      await attempt({ config: security({ selinuxOptions: { type: 'container_t' } }) }),
      FAILED_PRECONDITION,
      /SELinux is required, but not enabled on this host/,
    )
    const selinuxOptions = { type: 'container_t', level: 's0:c1,c2' }
    const securityContext = { namespaceOptions: { pid: NamespaceMode.CONTAINER }, selinuxOptions }
    const { cgroupParent } = world.site
    refused(
      await attempt({ sandbox: { linux: { cgroupParent, securityContext } } }),
      FAILED_PRECONDITION,
      /SELinux is required, but not enabled on this host/,
    )
  })

  it('B9: files of the node are never relabelled', async () => {
    const { info } = await world.cri.runtime.status({ verbose: true })
    const host: { selinux: boolean } = JSON.parse(info.host ?? '{}')
    const changed = () => ['/etc/hosts', '/usr', '/home'].map((path) => statSync(path).ctimeMs)
    const before = changed()
    for (const hostPath of ['/etc/hosts', '/usr', '/home', world.site.path('state'), world.site.path('root')]) {
      const mounts = [{ containerPath: '/m', hostPath, readonly: true, selinuxRelabel: true }]
      const outcome = await attempt({ config: { mounts } })
      if (host.selinux) refused(outcome, INVALID_ARGUMENT, /belongs to the node and is never relabelled/, hostPath)
      else assert.equal(outcome.error, undefined, 'without SELinux there is nothing to relabel')
    }
    assert.deepEqual(changed(), before)
  })
})
