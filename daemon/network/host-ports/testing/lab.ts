/**
 * A node, two pods on its bridge and a stranger on its network, all as network namespaces: the real kernel answers whether
 * rules lead where they should.
 *
 *   stranger 192.0.2.2, 2001:db8::2 ── 192.0.2.1, 2001:db8::1 node 10.55.0.1, fd55::1 ─bridge─┬─ web 10.55.0.2, fd55::2
 *                                                                                         └─ neighbour 10.55.0.3, fd55::3
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { type Linux, linux } from '#linux/linux.ts'

export type Place = 'node' | 'web' | 'neighbour' | 'stranger'

export interface Lab {
  /** Does this with the place's network. */
  inside<T>(place: Place, work: () => T): T
  /** `linux.runCommand` with the place's network. */
  runIn(place: Place): Linux['runCommand']
  /** What a server at this address says to a client at this place: the address it sees. Undefined when nothing answers. */
  ask(from: Place, address: string, port: number, protocol?: 'tcp' | 'udp'): string | undefined
  /** Sends to this UDP port from one socket, over and over, until something answers. Resolves when the first is sent. */
  insist(from: Place, address: string, port: number): Promise<{ answer: Promise<string> }>
  /** Answers each client with its address on TCP and UDP, until the test ends. */
  serve(place: Place, port: number): Promise<void>
}

const NSENTER = '/usr/bin/nsenter'

/** What the host lacks for this; undefined when it can be done. */
export const missingForLab = (): string | undefined => {
  if (!existsSync('/usr/sbin/nft')) return 'nft'
  if (!existsSync('/sbin/ip') && !existsSync('/usr/sbin/ip')) return 'ip'
  try {
    const script =
      'table inet probe { chain c { type nat hook output priority -100; fib daddr type local accept; }; }\n'
    execFileSync('/usr/bin/unshare', ['--net', '/usr/sbin/nft', '-f', '-'], { input: script, stdio: 'pipe' })
    return undefined
  } catch {
    return 'kernel support for nftables'
  }
}

const SERVER = `
const say = (address) => address.replace('::ffff:', '')
require('net').createServer((s) => s.end(say(s.remoteAddress))).listen(PORT, '::', () => console.log('up'))
const udp = require('dgram').createSocket('udp6')
udp.on('message', (_, from) => udp.send(say(from.address), from.port, from.address)).bind(PORT)
`

const INSIST = `
const udp = require('dgram').createSocket(ADDRESS.includes(':') ? 'udp6' : 'udp4')
udp.on('message', (answer) => { console.log(String(answer)); process.exit() })
setInterval(() => udp.send('hello', PORT, ADDRESS, () => console.log('sent')), 50)
`

const ASK = `exec 3<>"/dev/$1/$2/$3" || exit 1; echo hello >&3; timeout 1 dd bs=64 count=1 status=none <&3; exit 0`

export const makeLab = (t: TestContext): Lab => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-lab-'))
  const children: ChildProcess[] = []
  const pin = (place: Place) => join(dir, place)
  const places: Place[] = ['node', 'web', 'neighbour', 'stranger']
  t.after(() => {
    for (const child of children) child.kill('SIGKILL')
    for (const place of places) linux.unpinNamespace(pin(place))
    rmSync(dir, { recursive: true, force: true })
  })
  for (const place of places) {
    linux.createNamespaces({ kinds: ['net'], pins: { net: pin(place) }, inside: () => linux.setLinkUp('lo') })
  }
  const at = (place: Place, ...command: string[]): string =>
    execFileSync(NSENTER, [`--net=${pin(place)}`, ...command], { encoding: 'utf8', stdio: 'pipe' })
  const link = (place: Place, name: string, v4: string, v6: string): void => {
    at('node', 'ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pin(place))
    at('node', 'ip', 'link', 'set', name, 'up')
    addresses(place, 'eth0', v4, v6)
  }
  const addresses = (place: Place, device: string, v4: string, v6: string): void => {
    at(place, 'ip', 'addr', 'add', v4, 'dev', device)
    at(place, 'ip', 'addr', 'add', v6, 'dev', device, 'nodad')
    at(place, 'ip', 'link', 'set', device, 'up')
  }
  const gateway = (place: Place, v4: string, v6: string): void => {
    at(place, 'ip', 'route', 'add', 'default', 'via', v4)
    at(place, 'ip', '-6', 'route', 'add', 'default', 'via', v6)
  }
  at('node', 'ip', 'link', 'add', 'br0', 'type', 'bridge')
  addresses('node', 'br0', '10.55.0.1/24', 'fd55::1/64')
  link('web', 'web', '10.55.0.2/24', 'fd55::2/64')
  link('neighbour', 'neighbour', '10.55.0.3/24', 'fd55::3/64')
  // Hairpin as the bridge plugin sets it: with br_netfilter a pod's way to itself does not leave the bridge.
  for (const port of ['web', 'neighbour']) {
    at('node', 'ip', 'link', 'set', port, 'master', 'br0')
    at('node', 'ip', 'link', 'set', port, 'type', 'bridge_slave', 'hairpin', 'on')
  }
  for (const pod of ['web', 'neighbour'] as const) gateway(pod, '10.55.0.1', 'fd55::1')
  link('stranger', 'uplink', '192.0.2.2/24', '2001:db8::2/64')
  addresses('node', 'uplink', '192.0.2.1/24', '2001:db8::1/64')
  for (const sysctl of ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']) at('node', 'sysctl', '-qw', sysctl)

  const script = (place: Place, text: string) => {
    const args = [`--net=${pin(place)}`, process.execPath, '-e', text]
    const child = spawn(NSENTER, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    return child
  }

  return {
    inside: (place, work) => linux.inNamespaces({ net: pin(place) }, work),
    runIn: (place) => (path, args, options) =>
      linux.runCommand(NSENTER, [`--net=${pin(place)}`, path, ...args], options),
    ask(from, address, port, protocol = 'tcp') {
      try {
        const answer = at(from, 'timeout', '3', 'bash', '-c', ASK, 'ask', protocol, address, `${port}`)
        return answer || undefined
      } catch {
        return undefined
      }
    },
    async insist(from, address, port) {
      const client = script(from, INSIST.replaceAll('PORT', `${port}`).replaceAll('ADDRESS', `'${address}'`))
      const answer = new Promise<string>((resolve) => {
        let said = ''
        client.stdout.on('data', (text) => {
          said += text
          const [line] = said.split('\n').filter((each) => each !== '' && each !== 'sent')
          if (line !== undefined && said.endsWith('\n')) resolve(line)
        })
      })
      await once(client.stdout, 'data')
      return { answer }
    },
    async serve(place, port) {
      await once(script(place, SERVER.replaceAll('PORT', `${port}`)).stdout, 'data')
    },
  }
}
