/** The exit record on disk (design §3.3). Its room is reserved when the container is created: a full disk cannot lose it. */
import { closeSync, constants, fsyncSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fsyncDirectory } from '#linux/atomic-file.ts'
import { fallocate } from '#linux/syncfs.ts'
import { type ExitRecord, exitRecordToWire, monitorFiles } from '#proto/conmon.ts'
import type { InitExit } from './reaper.ts'

const RESERVED_BYTES = 4096
const UNKNOWN_CODE = 255
const SIGNAL_BASE = 128

export class ExitRecordFile {
  readonly #dir: string
  readonly #fd: number

  /** @throws what open and fallocate throw, ENOSPC above all */
  constructor(dir: string) {
    this.#dir = dir
    const path = join(dir, monitorFiles.exitRecordSpare)
    const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants
    this.#fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
    fallocate(this.#fd, RESERVED_BYTES)
  }

  /** Once. Durable when it returns. */
  write(record: ExitRecord): void {
    const bytes = Buffer.from(JSON.stringify(exitRecordToWire(record)))
    writeSync(this.#fd, bytes, 0, bytes.length, 0)
    ftruncateSync(this.#fd, bytes.length)
    fsyncSync(this.#fd)
    closeSync(this.#fd)
    renameSync(join(this.#dir, monitorFiles.exitRecordSpare), join(this.#dir, monitorFiles.exitRecord))
    fsyncDirectory(this.#dir)
  }

  /** The container was never created. */
  discard(): void {
    closeSync(this.#fd)
    rmSync(join(this.#dir, monitorFiles.exitRecordSpare), { force: true })
  }
}

/** The record's words for an end. What nobody saw is never a success. */
export function exitFields(exit: InitExit): Pick<ExitRecord, 'code' | 'signal' | 'unknown'> {
  switch (exit.how) {
    case 'exited':
      return { code: exit.code, signal: 0 }
    case 'signaled':
      return { code: SIGNAL_BASE + exit.signal, signal: exit.signal }
    case 'unknown':
      return { code: UNKNOWN_CODE, signal: 0, unknown: exit.why }
  }
}
