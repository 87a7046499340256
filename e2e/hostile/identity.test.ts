/** Users, groups, capabilities, and the account files of images (A5 to A9, B3). Rules: `attack.ts`. */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { LayerEntry } from '../oci-image.ts'
import { FAILED_PRECONDITION, INVALID_ARGUMENT, refused, security, useAttacks } from './attack.ts'

describe('hostile identity:', () => {
  const attacks = useAttacks()
  const { attempt, image, world } = attacks

  it('A5: a HOME that breaks out of its line in passwd is refused', async () => {
    for (const home of ['/root\nevil::0:0::/:/bin/sh', '/x:/bin/sh', '/x\r', '/x\u2028y']) {
      const envs = [{ key: 'HOME', value: Buffer.from(home) }]
      const config = { envs, ...security({ runAsUser: { value: 4321n } }) }
      refused(
        await attempt({ config }),
        INVALID_ARGUMENT,
        /^HOME [\s\S]* cannot stand in \/etc\/passwd/,
        JSON.stringify(home),
      )
      const fromImage = await image([], { Env: [`HOME=${home}`, 'PATH=/bin'] })
      refused(
        await attempt({ image: fromImage, config: security({ runAsUser: { value: 4321n } }) }),
        FAILED_PRECONDITION,
        /^HOME [\s\S]* cannot stand in \/etc\/passwd/,
      )
    }
  })

  it('A7: ids out of range are refused, and digits are never a name', async () => {
    for (const value of [-1n, 2_147_483_648n, 4_294_967_294n, 4_294_967_295n, 4_294_967_296n, 2n ** 63n - 1n]) {
      refused(
        await attempt({ config: security({ runAsUser: { value } }) }),
        INVALID_ARGUMENT,
        /^run_as_user -?\d+ is not between/,
      )
      const group = security({ runAsUser: { value: 1n }, runAsGroup: { value } })
      refused(await attempt({ config: group }), INVALID_ARGUMENT, /^run_as_group -?\d+ is not between/)
      refused(
        await attempt({ config: security({ supplementalGroups: [value] }) }),
        INVALID_ARGUMENT,
        /^supplemental_groups\[0\] -?\d+ is not between/,
      )
    }
  })

  it('A6: account files that are huge, or no files, are refused at once', async () => {
    const files: Record<string, LayerEntry> = {
      huge: { path: 'etc/passwd', content: Buffer.alloc(3 << 20, 'x') },
      fifo: { path: 'etc/passwd', node: 'fifo' },
      zero: { path: 'etc/passwd', node: 'character-device', major: 1, minor: 5 },
      group: { path: 'etc/group', node: 'fifo' },
      directory: { path: 'etc/passwd/' },
      loop: { path: 'etc/passwd', symlinkTo: 'passwd' },
    }
    for (const [what, file] of Object.entries(files)) {
      const reference = await image([file], { User: 'app' })
      const began = performance.now()
      refused(
        await attempt({ image: reference }),
        FAILED_PRECONDITION,
        /^(Cannot open )?"\/etc\/(passwd|group)" of the image/,
        what,
      )
      assert.ok(performance.now() - began < 5000, what)
    }
  })

  it('A7: users that are no numbers and no names are refused', async () => {
    const users = [
      '-1',
      '2147483648',
      '4294967295',
      '4294967296',
      '18446744073709551616',
      '0x0',
      '0b0',
      '1e3',
      ' 0',
      '0 ',
      '+0',
      '１',
      '1000abc',
      ':0',
      '0:',
      'a:b:c',
      'x'.repeat(1 << 20),
    ]
    const passwd: LayerEntry = {
      path: 'etc/passwd',
      content: ['4294967296:x:0:0::/:/bin/sh', 'root:x:0:0::/:/bin/sh', ''].join('\n'),
    }
    for (const User of users)
      refused(
        await attempt({ image: await image([passwd], { User }) }),
        FAILED_PRECONDITION,
        /^[Ii]mage (has the )?user "/,
        User.slice(0, 30),
      )
    const { said } = await attempt({ image: await image([passwd], { User: '007' }), script: 'id -u' })
    assert.equal(said, '7')
  })

  it('A8: the primary group is always among the groups, in exec too', async () => {
    const forms: [object, RegExp][] = [
      [{ runAsUser: { value: 1000n } }, /^(?=.*\b1000\b)(?=.*\b2000\b)/],
      [{ runAsUsername: 'app', supplementalGroups: [77n] }, /^(?=.*\b1000\b)(?=.*\b2000\b)(?=.*\b77\b)/],
      [{ runAsUsername: 'app', supplementalGroupsPolicy: 1 }, /^1000$/],
      [{ runAsUser: { value: 1000n }, runAsGroup: { value: 3000n }, supplementalGroupsPolicy: 1 }, /^3000$/],
    ]
    for (const [context, wanted] of forms) {
      const { said, error, spec } = await attempt({
        config: security(context),
        script: 'id -G; sleep 1',
        while: async (containerId) => {
          const { stdout } = await world.cri.runtime.execSync({ containerId, cmd: ['id', '-G'], timeout: 10n })
          assert.match(Buffer.from(stdout).toString().trim(), wanted)
        },
      })
      assert.equal(error, undefined)
      assert.match(said, wanted)
      // `id` adds the primary group by itself.
      assert.ok(spec.process.user.additionalGids.includes(spec.process.user.gid))
    }
  })

  it('A9: capabilities are never inheritable, and unknown ones are refused', async () => {
    const contexts = [
      {},
      { runAsUser: { value: 1000n } },
      { capabilities: { addCapabilities: ['ALL'] } },
      { capabilities: { dropCapabilities: ['ALL'], addCapabilities: ['cap_chown'] } },
    ]
    for (const context of contexts) {
      const { said, error } = await attempt({ config: security(context), script: 'grep Cap /proc/self/status' })
      assert.equal(error, undefined)
      assert.match(said, /CapInh:\s+0{16}[\s\S]*CapAmb:\s+0{16}/)
      if ('runAsUser' in context) assert.match(said, /CapEff:\s+0{16}/)
      if (context.capabilities?.dropCapabilities) assert.match(said, /CapBnd:\s+0{15}1/)
    }
    for (const name of ['CAP_NONSENSE', '', 'CHOWN ', 'CAP_CAP_CHOWN']) {
      refused(
        await attempt({ config: security({ capabilities: { addCapabilities: [name] } }) }),
        INVALID_ARGUMENT,
        /_capabilities has ".*", which is no capability/,
        name,
      )
      refused(
        await attempt({ config: security({ capabilities: { dropCapabilities: [name] } }) }),
        INVALID_ARGUMENT,
        /_capabilities has ".*", which is no capability/,
        name,
      )
    }
  })

  it('B3: a passwd that leads to the host is not read', async () => {
    for (const symlinkTo of [
      join(attacks.canary.dir, 'passwd'),
      `../../../../../../../..${attacks.canary.dir}/passwd`,
    ]) {
      const reference = await image([{ path: 'etc/passwd', symlinkTo }])
      const { said } = await attempt({ image: reference, script: 'cat /etc/passwd' })
      assert.ok(!said.includes(attacks.canary.secret))
      refused(
        await attempt({ image: reference, config: security({ runAsUsername: 'root' }) }),
        FAILED_PRECONDITION,
        /"root" is not in \/etc\/passwd of the image/,
      )
    }
  })
})
