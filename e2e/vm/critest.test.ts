/**
 * The public conformance suite of the CRI, AppArmor's specs among it, on a node with cgroup version 2. It is no part of this repository:
 * `CRICKET_VM_CRITEST` names a directory with the program `critest`, the root directory of a registry with its images (`registry`)
 * and, if not all is wanted, further arguments for it, one per line (`arguments`).
 */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { removeAllPods } from '../pods.ts'
import { leftoversOf, useNode } from './node.ts'
import { SOCKET, tool } from './systemd.ts'

const GIVEN = '/share/critest'
const REGISTRIES = ['registry.k8s.io', 'k8s.gcr.io', 'gcr.io']
/** Less than the machine is given for this file, so that what was not reached is told by name. */
const TIMEOUT = '55m'

/** What the suite says of one of its specs. */
interface SpecReport {
  readonly LeafNodeType: string
  readonly ContainerHierarchyTexts: readonly string[] | null
  readonly LeafNodeText: string
  /** `passed`, `skipped`, `pending`, or how it failed. */
  readonly State: string
  readonly Failure?: { readonly Message?: string; readonly Location?: { FileName: string; LineNumber: number } }
}

const skip = existsSync(GIVEN) ? false : 'no critest is given (CRICKET_VM_CRITEST)'

describe('critest on cgroup version 2', { skip }, () => {
  const node = useNode()

  before(async () => {
    await cp(join(GIVEN, 'registry'), join(node.site.dir, 'registry'), { recursive: true })
    const host = node.image.split('/', 1)[0]
    for (const name of REGISTRIES) {
      const dir = join('/etc/cricket/certs.d', name)
      await mkdir(dir, { recursive: true })
      await writeFile(join(dir, 'hosts.toml'), `[host."http://${host}"]\ncapabilities = ["pull", "resolve"]\n`)
    }
    // Its pods look for a way out, and its host ports for one back from the loopback device.
    for (const command of ['link add up0 type dummy', 'addr add 192.0.2.1/24 dev up0', 'link set up0 up'])
      await tool('ip', command.split(' '))
    await tool('ip', ['route', 'add', 'default', 'dev', 'up0'])
    await tool('sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.route_localnet=1'])
  })

  // It loads AppArmor's profiles by `sudo`, which is no program of a machine on which all is root's.
  before(() => writeFile('/usr/bin/sudo', '#!/bin/sh\nexec "$@"\n', { mode: 0o755 }))

  it('fails in none of its specs', async (t) => {
    const report = join(node.site.dir, 'critest.json')
    const more = await readFile(join(GIVEN, 'arguments'), 'utf8').catch(() => '')
    const args = [
      ...['-runtime-endpoint', `unix://${SOCKET}`, '-image-endpoint', `unix://${SOCKET}`],
      ...['-nri-socket', '/var/run/nri/nri.sock', '-ginkgo.no-color', `-ginkgo.timeout=${TIMEOUT}`],
      ...['-ginkgo.json-report', report, ...more.split('\n').filter(Boolean)],
    ]
    // It reads a configuration file in its working directory.
    await tool(join(GIVEN, 'critest'), args, {
      cwd: node.site.dir,
      stdio: ['ignore', 'inherit', 'inherit'],
      reject: false,
    })
    const suites: { SpecReports: SpecReport[] }[] = JSON.parse(await readFile(report, 'utf8'))
    const specs = suites.flatMap(({ SpecReports }) => SpecReports).filter(({ LeafNodeType }) => LeafNodeType === 'It')
    assert.notEqual(specs.length, 0)
    for (const { ContainerHierarchyTexts, LeafNodeText, State, Failure } of specs) {
      const name = [...(ContainerHierarchyTexts ?? []), LeafNodeText].join(' ')
      const { Message, Location } = Failure ?? {}
      await t.test(name, { skip: (State === 'skipped' || State === 'pending') && (Message ?? true) }, () =>
        assert.equal(State, 'passed', `${Message}, at ${Location?.FileName}:${Location?.LineNumber}`),
      )
    }
  })

  it('leaves nothing behind', async () => {
    await removeAllPods(node.cri)
    assert.deepEqual(await leftoversOf(node), [])
  })
})
