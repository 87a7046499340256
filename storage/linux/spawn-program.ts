/**
 * Starts a program, as the leader of its process group, without copying this process (vfork): a fork takes the longer the more memory there is to
 * share, and nothing else of this thread can run meanwhile. Everything the program is to differ in is settled before it is executed.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { cgroupProcsFiles } from './cgroup.ts'
import { rawSpawn, sysError } from './sys.ts'

export interface Program {
  /** Absolute. */
  readonly path: string
  /** Without its name, which is the path. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** What the program has as its descriptors 0, 1, 2, …; it inherits no other. */
  readonly stdio: readonly (number | 'ignore')[]
  /** The soft limit on open files, unless the hard one is lower; ours when not given. */
  readonly openFiles?: number
  /** Its oom_score_adj is 0, whatever ours is. */
  readonly neutralOomScore?: boolean
  /**
   * It leads a session of its own. Where the scheduler groups by session (autogroup) that sets it apart from us, and it competes as much
   * as we do with everything else: for what outlives us only.
   */
  readonly session?: boolean
  /** The cgroup it is executed in, which exists; ours when not given. */
  readonly cgroup?: string
  /** New ones of its own, in which it is alone. */
  readonly namespaces?: readonly (keyof typeof NAMESPACES)[]
  /**
   * All the capabilities (numbers below 32) that it, or what it starts, can have; nothing it executes gains any. All those of ours when
   * not given.
   */
  readonly capabilities?: readonly number[]
}

const NAMESPACES = { ipc: 0x08000000, pid: 0x20000000, net: 0x40000000 } as const

/**
 * Returns the pid of the program, which the caller has to wait for; neither Node nor Bun knows of it. Its working directory is "/",
 * no signal is ignored or blocked.
 * @throws LinuxError with the path when it cannot be executed
 */
export function spawnProgram(program: Program): number {
  const { path, args, env, stdio, openFiles, neutralOomScore, session, cgroup, namespaces = [], capabilities } = program
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const cgroups = cgroup === undefined ? [] : cgroupProcsFiles(cgroup).map((file) => openSync(file, constants.O_WRONLY))
  try {
    const settings = [
      args.length + 1,
      variables.length,
      openFiles ?? -1,
      neutralOomScore === true ? 1 : 0,
      session === true ? 1 : 0,
      namespaces.reduce((flags, name) => flags | NAMESPACES[name], 0),
      capabilities === undefined ? 0 : 1,
      capabilities?.reduce((mask, number) => mask | (1 << number), 0) ?? 0,
      stdio.length,
      cgroups.length,
      ...stdio.map((fd) => (fd === 'ignore' ? -1 : fd)),
      ...cgroups,
    ]
    const pid = rawSpawn(path, textList([path, ...args]), textList(variables), integers(settings))
    if (pid < 0) throw sysError(pid, 'execve', path)
    return pid
  } finally {
    for (const fd of cgroups) closeSync(fd)
  }
}

/** One behind the other, each with the NUL that ends it; never empty, as the addon takes the address. */
function textList(texts: readonly string[]): Buffer {
  const bad = texts.find((text) => text.includes('\0'))
  if (bad !== undefined) throw new TypeError(`argument ${JSON.stringify(bad)} contains a NUL`)
  return Buffer.from(`${texts.join('\0')}\0`)
}

function integers(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [place, value] of values.entries()) bytes.writeInt32LE(value, place * 4)
  return bytes
}
