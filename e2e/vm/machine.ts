/**
 * A virtual machine as a process of ours. It has no network; commands go in and output comes out through a console.
 * Its disk is thrown away with it, and the kernel kills it when this process ends, however that happens.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import type { Image } from './image.ts'

/** Hardware virtualisation, or the emulation that works everywhere, some ten times slower. */
const ACCELERATORS = {
  kvm: { flags: ['-accel', 'kvm', '-cpu', 'host'], bootMs: 40_000 },
  tcg: {
    flags: ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'Nehalem,+rdrand', '-machine', 'q35,hpet=off'],
    bootMs: 900_000,
  },
} as const
export type Accelerator = keyof typeof ACCELERATORS

const KERNEL_ARGUMENTS =
  'root=/dev/vda rw console=ttyS0 quiet mitigations=off nokaslr no_timer_check random.trust_cpu=on'
/** What confines the guest's programs: a kernel has one of them at a time. */
const SECURITY = { apparmor: 'apparmor=1', selinux: 'security=selinux selinux=1 enforcing=1' } as const
export type Security = keyof typeof SECURITY

/** Boots with KVM where that works; a host can have a /dev/kvm that does not. */
export async function bootMachine(image: Image, share: string, security: Security): Promise<Machine> {
  if (existsSync('/dev/kvm')) {
    const machine = await Machine.boot({ image, share, security }, 'kvm').catch(() => undefined)
    if (machine) return machine
  }
  return Machine.boot({ image, share, security }, 'tcg')
}

interface Parts {
  readonly image: Image
  /** The disk with what the guest gets to see of this repository. */
  readonly share: string
  readonly security: Security
}

export class Machine {
  readonly accelerator: Accelerator
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>
  readonly #lines: Interface
  #complaint = ''
  #onLine: (line: string) => void = () => {}

  private constructor({ image, share, security }: Parts, accelerator: Accelerator) {
    this.accelerator = accelerator
    const libraries = join(image.qemu, 'usr/lib/x86_64-linux-gnu')
    const program = [
      ...[join(libraries, 'ld-linux-x86-64.so.2'), '--library-path', libraries],
      join(image.qemu, 'usr/bin/qemu-system-x86_64'),
    ]
    const flags = [
      ...['-L', join(image.qemu, 'usr/share/qemu'), '-L', join(image.qemu, 'usr/share/seabios')],
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-serial', 'null'],
      ...ACCELERATORS[accelerator].flags,
      ...['-smp', String(Math.min(4, availableParallelism())), '-m', '3072'],
      ...['-kernel', image.kernel, '-initrd', image.initrd, '-append', `${KERNEL_ARGUMENTS} ${SECURITY[security]}`],
      ...['-drive', `file=${image.disk},format=raw,if=virtio,snapshot=on`],
      ...['-drive', `file=${share},format=raw,if=virtio,readonly=on`],
      ...[
        '-device',
        'virtio-serial',
        '-chardev',
        'stdio,id=console,signal=off',
        '-device',
        'virtconsole,chardev=console',
      ],
    ]
    // The emulator must not outlive us, not even when we are killed.
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...program, ...flags], {
      stdio: ['pipe', 'pipe', 'pipe'],
      // Where the emulator keeps, already deleted, what is written to the disk.
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TMPDIR: '/var/tmp' },
    })
    this.#child.stdin.on('error', () => {})
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#complaint += text
    })
    this.#lines = createInterface({ input: this.#child.stdout })
    this.#lines.on('line', (line) => this.#onLine(line))
  }

  static async boot(parts: Parts, accelerator: Accelerator): Promise<Machine> {
    const machine = new Machine(parts, accelerator)
    try {
      await machine.#until('@ready', ACCELERATORS[accelerator].bootMs, () => {})
      return machine
    } catch (error) {
      await machine.end()
      throw error
    }
  }

  /** Runs a command by the guest's shell, as root. Returns its exit code. Throws when it has not ended in time. */
  async run(command: string, timeoutMs: number, onLine: (line: string) => void): Promise<number> {
    const end = this.#until('@exit ', timeoutMs, onLine)
    this.#child.stdin.write(`${command.replaceAll('\n', ' ')}\n`)
    return Number((await end).slice('@exit '.length))
  }

  /** Hands lines to `onLine` until one begins with the mark, which is returned. */
  #until(mark: string, timeoutMs: number, onLine: (line: string) => void): Promise<string> {
    return new Promise((resolve, reject) => {
      const fail = (what: string) => {
        settle()
        reject(new Error(`the virtual machine ${what}${this.#complaint && `:\n${this.#complaint}`}`))
      }
      const ended = () => fail('ended')
      const timer = setTimeout(() => fail(`did not answer within ${timeoutMs / 1000} s`), timeoutMs)
      const settle = () => {
        clearTimeout(timer)
        this.#child.off('close', ended)
        this.#onLine = () => {}
      }
      this.#child.once('close', ended)
      this.#child.once('error', ended)
      this.#onLine = (line) => {
        if (!line.startsWith(mark)) return onLine(line)
        settle()
        resolve(line)
      }
    })
  }

  /** Pulls the plug. */
  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child
    if (exitCode !== null || signalCode !== null) return
    const closed = new Promise((resolve) => this.#child.once('close', resolve))
    this.#child.kill('SIGKILL')
    await closed
  }
}
