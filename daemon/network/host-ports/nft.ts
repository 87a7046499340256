/** Runs nft, which talks to the kernel's packet filter, and conntrack where that is installed. */
import { accessSync, constants } from 'node:fs'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'

const DIRS = ['/usr/sbin', '/sbin', '/usr/bin', '/usr/local/sbin']
const TIMEOUT_MS = 20_000
const MAX_REPORT_CHARS = 500

export interface Nft {
  isInstalled(): boolean
  /** @throws RuntimeError failed-precondition unless the program is installed */
  require(): void
  /** Carries out all of the text or nothing of it. */
  apply(script: string): Promise<void>
  hasTable(table: string): Promise<boolean>
  /** Ends tracked flows to this UDP port of the host, which would go on leading where they led before. */
  forgetUdp(port: number): Promise<void>
}

const findProgram = (name: string): string | undefined =>
  DIRS.map((dir) => `${dir}/${name}`).find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

const required = (): string => {
  const path = findProgram('nft')
  if (path !== undefined) return path
  const where = `"nft" is not in ${DIRS.join(', ')}`
  throw new RuntimeError(
    'failed-precondition',
    `Host ports need a network plugin with the "portMappings" capability, or nftables: ${where}`,
  )
}

export const openNft = ({ runCommand }: Pick<Linux, 'runCommand'>): Nft => ({
  isInstalled: () => findProgram('nft') !== undefined,
  require: () => void required(),
  async apply(script) {
    const { exit, stderr } = await runCommand(required(), ['-f', '-'], { input: script, timeoutMs: TIMEOUT_MS })
    if (exit.how === 'exited' && exit.code === 0) return
    const report = stderr.toString().replace(/\s+/g, ' ').trim().slice(0, MAX_REPORT_CHARS)
    throw new RuntimeError('internal', `nft cannot change the host ports: ${report}`)
  },
  async hasTable(table) {
    const args = ['list', 'chain', 'inet', table, 'publish']
    const { exit } = await runCommand(required(), args, { timeoutMs: TIMEOUT_MS, maxOutput: 4096 })
    return exit.how === 'exited' && exit.code === 0
  },
  async forgetUdp(port) {
    const conntrack = findProgram('conntrack')
    // Without the program a client that sent to the port before has to pause for half a minute.
    if (conntrack === undefined) return
    for (const family of ['ipv4', 'ipv6']) {
      const args = ['-D', '-f', family, '-p', 'udp', '--orig-port-dst', `${port}`]
      // It exits with 1 when there is no such flow.
      await runCommand(conntrack, args, { timeoutMs: TIMEOUT_MS, maxOutput: 4096 })
    }
  },
})
