/**
 * Locks this process, the unpacking one, into the directory for what is being made: its root is a mount without a parent, on which no link is
 * followed, its capabilities are the few that unpacking takes, and the calls that lead out of such a place fail. All of it for good.
 */
import { constants } from 'node:fs'
import { CAPABILITY, ownCapabilities } from '#linux/capabilities.ts'
import { errnoName } from '#linux/errno.ts'
import { denyCalls } from '#linux/seccomp-filter.ts'
import { pathArgument, rawSys, sys, sysOn } from '#linux/sys.ts'
import type { SyscallName } from '#linux/syscall-numbers.ts'
import { RuntimeError } from '#proto/errors.ts'

/** Owners, modes, devices and capabilities of files; nothing of networks, mounts, processes. */
export const UNPACKING_CAPABILITIES: readonly number[] = Object.values(CAPABILITY)

const PR_SET_PDEATHSIG = 1
const SIGKILL = 9

/** A program that turned against us has no use for what is not here; what mounts needs a capability as well. */
const DENIED: readonly SyscallName[] = [
  ...(['execve', 'execveat', 'ptrace', 'process_vm_readv', 'process_vm_writev', 'kill', 'tkill'] as const),
  ...(['pidfd_open', 'pidfd_send_signal', 'pidfd_getfd', 'setns', 'unshare', 'pivot_root'] as const),
  ...(['mount', 'umount2', 'open_tree', 'move_mount', 'fsopen', 'fsconfig', 'fsmount', 'mount_setattr'] as const),
  ...(['socket', 'socketpair', 'connect', 'bind', 'listen', 'open_by_handle_at', 'fanotify_init'] as const),
  ...(['bpf', 'perf_event_open', 'userfaultfd', 'io_uring_setup', 'add_key', 'request_key', 'keyctl'] as const),
  ...(['init_module', 'finit_module', 'delete_module', 'kexec_load', 'reboot', 'sethostname'] as const),
]

/** What the process was started with; see unpack-process.ts. */
export interface Places {
  /** Mounts: of the directory for what is being made, of blobs, of blobs that still arrive. */
  readonly temp: number
  readonly whole: number
  readonly partial: number
}

export class ProcessConfinement {
  readonly #places: Places

  /** Throws when something of it cannot be had. */
  constructor(places: Places) {
    this.#places = places
    sys('prctl', PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    const excess = ownCapabilities().filter((number) => !UNPACKING_CAPABILITIES.includes(number))
    if (excess.length > 0) throw new Error(`has capabilities that unpacking does not take: ${excess.join(', ')}`)
    process.umask(0)
    this.#enter()
    denyCalls(DENIED)
  }

  /** Throws internal when it is not there: that is no fault of an archive. */
  openBlob(place: 'whole' | 'partial', name: string): number {
    const fd = rawSys('openat', this.#places[place], pathArgument(name), constants.O_RDONLY | constants.O_NOFOLLOW)
    if (fd < 0) throw new RuntimeError('internal', `Cannot open ${place} blob "${name}": ${errnoName(fd)}`)
    return fd
  }

  /** Runs `inside` with this directory as root. */
  async run<T>(directory: string, inside: () => Promise<T>): Promise<T> {
    sysOn(directory, 'chdir', directory)
    sys('chroot', '.')
    try {
      return await inside()
    } finally {
      this.#enter()
    }
  }

  #enter(): void {
    sys('fchdir', this.#places.temp)
    sys('chroot', '.')
  }
}
