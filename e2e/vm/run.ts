/**
 * `npm run test:vm`: the core of the end-to-end tests on what nodes run, cgroup v2 with systemd and AppArmor, in a
 * virtual machine. Ends with one line, `N passed, N failed, N skipped`; a host that cannot run it says why, and all is
 * skipped. Words on the command line select test files by a part of their path.
 */

import { globSync } from 'node:fs'
import { mkdir, statfs } from 'node:fs/promises'
import { resolve } from 'node:path'
import { execa } from 'execa'
import { CACHE, findOrMakeImage, hasImage, type Image, MIRROR } from './image.ts'
import { bootMachine, type Machine, type Security } from './machine.ts'
import { makeShare } from './share.ts'

process.chdir(resolve(import.meta.dirname, '../..'))

/**
 * The suites of the service, and the ordinary one that walks the whole line, with the systemd driver. Those with
 * "selinux" in their name get a machine on which SELinux enforces, the others one with AppArmor.
 */
const SUITES = ['e2e/vm/*.test.ts', 'e2e/{line,images,container,container-log}.test.ts']
const NEEDED_BYTES = 4e9
const MINUTE = 60_000
/** How long one file may take: a suite made elsewhere is as long as it is. */
const limitOf = (path: string): number => (path.includes('critest') ? 60 : 20) * MINUTE

const tool = execa({ reject: false, all: true })
const say = (text: string): void => console.log(`vm     ${text}`)
const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** Why this host cannot run the machine; undefined when it can. */
async function obstacle(): Promise<string | undefined> {
  if (process.arch !== 'x64') return `there is no recipe for ${process.arch}`
  if (process.getuid?.() !== 0) return 'it needs root'
  await mkdir(CACHE, { recursive: true })
  const { bavail, bsize } = await statfs(CACHE)
  if (bavail * bsize < NEEDED_BYTES) return `it needs ${NEEDED_BYTES / 1e9} GB in '${CACHE}'`
  if (await hasImage()) return undefined
  const tools = await tool('.ci/setup', ['vm'])
  if (tools.exitCode !== 0) return `its tools cannot be installed: ${tools.all.trim()}`
  const answer = await fetch(`${MIRROR}/dists/trixie/InRelease`, { method: 'HEAD' }).catch(() => undefined)
  if (!answer?.ok) return `Debian's packages cannot be had from ${MIRROR}`
  return undefined
}

interface Counts {
  passed: number
  failed: number
  skipped: number
}

/** Runs one file in the guest, shows what it says, and counts from the reporter's last lines. */
async function runSuite(machine: Machine, path: string): Promise<Counts> {
  const summary = new Map<string, number>()
  const command = `cd / && NO_COLOR=1 CRICKET_E2E_CGROUP_DRIVER=systemd /share/dist/lib/node --test-reporter=spec ${path}`
  const show = (line: string): void => {
    const [, word = '', count] = /^ℹ (\w+) ([\d.]+)$/.exec(line) ?? []
    if (count === undefined) console.log(line)
    else summary.set(word, Number(count))
  }
  const code = await machine.run(command, limitOf(path), show).catch((error) => error)
  const of = (...words: string[]): number => words.reduce((sum, word) => sum + (summary.get(word) ?? 0), 0)
  const counts = { passed: of('pass'), failed: of('fail', 'cancelled'), skipped: of('skipped', 'todo') }
  if (code === 0 || (counts.failed > 0 && typeof code === 'number')) return counts
  console.log(`✖ ${path}: ${code instanceof Error ? code.message : `exit code ${code}`}`)
  return { ...counts, failed: counts.failed + 1 }
}

/** Boots a machine of its own for these files, and runs one after another. */
async function runSuites(image: Image, security: Security, tests: readonly string[]): Promise<Counts[]> {
  await using share = await makeShare(tests)
  const booting = performance.now()
  const machine = await bootMachine(image, share.disk, security)
  try {
    say(`booted by ${machine.accelerator}, with ${security} (${seconds(booting)})`)
    const installed = await machine.run(INSTALL[security], MINUTE, console.log)
    if (installed !== 0) throw new Error('cannot install Cricket in the virtual machine')
    const all: Counts[] = []
    for (const path of share.tests) {
      const begin = performance.now()
      const counts = await runSuite(machine, path)
      say(`${path}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds(begin)})`)
      all.push(counts)
    }
    return all
  } finally {
    await machine.end()
  }
}

const install = (options: string): string => `mkdir /share && mount -o ${options} /dev/vdb /share && sh /share/install`
const INSTALL = {
  apparmor: install('ro'),
  selinux: install('ro,context=system_u:object_r:bin_t:s0'),
} as const

async function main(words: readonly string[]): Promise<Counts> {
  const tests = SUITES.flatMap((pattern) => globSync(pattern).sort()).filter(
    (path) => words.length === 0 || words.some((word) => path.includes(word)),
  )
  if (tests.length === 0) throw new Error(`no test file has '${words.join("' or '")}' in its path`)
  const why = await obstacle()
  if (why !== undefined) {
    say(`skipped: this host cannot run the virtual machine: ${why}`)
    return { passed: 0, failed: 0, skipped: tests.length }
  }
  const image = await findOrMakeImage(say)
  const all: Counts[] = []
  for (const security of ['apparmor', 'selinux'] as const) {
    const its = tests.filter((path) => path.includes('selinux') === (security === 'selinux'))
    if (its.length > 0) all.push(...(await runSuites(image, security, its)))
  }
  const sum = (word: keyof Counts): number => all.reduce((total, counts) => total + counts[word], 0)
  return { passed: sum('passed'), failed: sum('failed'), skipped: sum('skipped') }
}

const begin = performance.now()
// Ctrl-C takes the machine with us; what is left in the cache goes with the next run.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130))
const { passed, failed, skipped } = await main(process.argv.slice(2)).catch((error) => {
  console.error(error instanceof Error ? error.message : error)
  return { passed: 0, failed: 1, skipped: 0 }
})
console.log(`\n${seconds(begin)}\n${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exitCode = failed === 0 ? 0 : 1
