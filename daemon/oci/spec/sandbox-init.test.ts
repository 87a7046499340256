/** The init of a pod for real: it runs, holds the PID namespace, reaps, and has nothing. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { runCommand } from '#linux/run-command.ts'
import { sandboxSpec } from './sandbox-spec.ts'
import { Bundles, RUNC } from './testing/bundle.ts'
import { sandboxConfig } from './testing/spec-case.ts'

const INIT = '/usr/bin/catatonit'
const skip =
  existsSync(RUNC) && existsSync(INIT) && process.getuid?.() === 0 ? false : 'host lacks runc, catatonit or root'
const bundles = new Bundles()
after(() => bundles[Symbol.asyncDispose]())

test('the init of a pod holds its PID namespace and reaps what a container leaves behind', { skip }, async () => {
  const id = bundles.own('init')
  const bundle = join(bundles.directory, id)
  mkdirSync(join(bundle, 'rootfs'), { recursive: true })
  const { spec } = sandboxSpec({
    sandboxId: id,
    sandbox: sandboxConfig({ linux: { securityContext: { namespaceOptions: { pid: 0 } } } }),
    host: bundles.host,
    rootfs: join(bundle, 'rootfs'),
    initPath: INIT,
    pins: {},
    cgroupsPath: bundles.cgroup(id),
  })
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
  await bundles.launch(id)

  const state = await bundles.cli.state(id)
  assert.equal(state?.status, 'running')
  const status = readFileSync(`/proc/${state?.pid}/status`, 'utf8')
  assert.match(status, /^Uid:\t65535\t65535/m)
  assert.match(status, /^CapBnd:\t0{16}$/m)
  assert.match(status, /^NoNewPrivs:\t1$/m)
  assert.match(status, /^Seccomp:\t2$/m)

  const script = '(sleep 0.1 & exec true) ; sleep 0.3; ps; readlink /proc/self/ns/pid'
  const { stdout, stderr } = await bundles.run(script, {
    sandbox: { linux: { securityContext: { namespaceOptions: { pid: 0 } } } },
    input: { namespaces: { net: 'new', ipc: 'new', uts: 'new', pid: `/proc/${state?.pid}/ns/pid` } },
  })
  assert.match(stdout, /^\s*1 \S+\s.*\/init -P$/m, stderr)
  assert.doesNotMatch(stdout, / Z /)
  const target = await runCommand('/bin/readlink', [`/proc/${state?.pid}/ns/pid`])
  assert.ok(stdout.includes(target.stdout.toString().trim()))

  assert.equal(await bundles.cli.kill(id, 'TERM'), true)
  while ((await bundles.cli.state(id))?.status === 'running') await sleep(20)
})
