/**
 * The AppArmor profile of containers that ask for the default one. It lets a container do what its namespaces, capabilities and
 * seccomp filter allow, and takes away what none of those covers: the kernel's own files, mounts, foreign processes.
 */
import { existsSync } from 'node:fs'
import { isErrno } from '#linux/errno.ts'
import type { HostFacts } from '#linux/host-facts.ts'
import type { Linux } from '#linux/linux.ts'
import { readKernelFile } from '#linux/read-bounded.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { describeExit, sanitise } from './complaint.ts'

export const PROFILE_NAME = 'cricket-default'

const PARSERS = ['/usr/sbin/apparmor_parser', '/sbin/apparmor_parser']
/** Rules of later versions (user namespaces, io_uring, message queues) would have to be granted one by one. */
const ABI = '/etc/apparmor.d/abi/3.0'
const LOADED_PROFILES = '/sys/kernel/security/apparmor/profiles'
const PARSER_TIMEOUT_MS = 30_000
const MAX_PROFILES_BYTES = 4 * 1024 * 1024

/** @param abi the file that pins the version of the rules; not given where AppArmor has no such files */
export const profileText = (abi?: string): string => `${abi === undefined ? '' : `abi "${abi}",\n`}
profile ${PROFILE_NAME} flags=(attach_disconnected,mediate_deleted) {
  # What is not said here is for capabilities, namespaces and seccomp to decide.
  capability,
  network,
  file,
  umount,

  # Kernel cryptography through sockets has been a way out more than once.
  deny network alg,

  # Whoever manages the container may signal it; its processes may signal and trace each other, and nobody else.
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send, receive) peer=${PROFILE_NAME},
  ptrace (trace, read, tracedby, readby) peer=${PROFILE_NAME},

  # The machine's settings, beside those of the container's own processes in /proc/<number>.
  deny /proc/[a-z]* wkl,
  deny /proc/[a-z]*/** wkl,
  deny /proc/kcore rwkl,
  deny /proc/sysrq-trigger rwkl,
  deny /sys/firmware/** rwkl,
  deny /sys/kernel/security/** rwkl,
  deny /sys/[^f]*/** wkl,
  deny /sys/f[^s]*/** wkl,
  # A container may manage the cgroups below its own.
  deny /sys/fs/[^c]*/** wkl,
  deny /sys/fs/c[^g]*/** wkl,

  deny mount,
  deny remount,
  deny pivot_root,
}
`

type ProfileNeeds = Pick<Linux, 'runCommand'>

/**
 * Loads the profile where AppArmor is on. Never throws: without the profile containers that insist on it are refused.
 * @returns its name when containers can be confined by it
 */
export async function loadDefaultProfile(linux: ProfileNeeds, host: HostFacts, log: Log): Promise<string | undefined> {
  if (!host.apparmor) return undefined
  const complaint = await load(linux)
  if (isLoaded(PROFILE_NAME)) {
    if (complaint) log.warn('An older default AppArmor profile stays loaded', { why: complaint })
    return PROFILE_NAME
  }
  log.warn('Cannot load the default AppArmor profile', {
    profile: PROFILE_NAME,
    why: complaint ?? 'it is not enforced',
  })
  return undefined
}

/** @returns what is wrong, if anything */
async function load(linux: ProfileNeeds): Promise<string | undefined> {
  const parser = PARSERS.find((path) => existsSync(path))
  if (parser === undefined) return `there is no ${PARSERS[0]}`
  const input = profileText(existsSync(ABI) ? ABI : undefined)
  try {
    // --skip-cache: the text is not a file that the parser could cache by.
    const { exit, stderr } = await linux.runCommand(parser, ['--replace', '--skip-cache'], {
      input,
      timeoutMs: PARSER_TIMEOUT_MS,
    })
    if (exit.how === 'exited' && exit.code === 0) return undefined
    return sanitise(stderr) || describeExit(exit)
  } catch (error) {
    return messageOf(error)
  }
}

/** Whether the kernel enforces a profile of this name. */
function isLoaded(name: string): boolean {
  try {
    const text = readKernelFile(LOADED_PROFILES, MAX_PROFILES_BYTES) ?? ''
    return text.split('\n').includes(`${name} (enforce)`)
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM')) return false
    throw error
  }
}
