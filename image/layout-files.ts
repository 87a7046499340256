/** The files of an OCI image layout, wherever they lie: in a directory or in an archive. */

import { closeSync, constants } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import { filePieces } from './file-pieces.ts'
import type { BlobStream } from './image-source.ts'

export interface LayoutFiles {
  /** For errors: 'layout "/srv/images"'. */
  readonly what: string
  /** A small file. @throws RuntimeError failed-precondition when it is missing, resource-exhausted beyond `maxBytes` */
  read(name: string, maxBytes: number): Promise<Buffer>
  /** A file, or a part of it. */
  stream(name: string, start: number, signal: AbortSignal, end?: number): BlobStream
}

/** A directory of the operator's. Its content came from somewhere: links are not followed. */
export class DirectoryFiles implements LayoutFiles {
  readonly what: string
  readonly #dir: string
  readonly #linux: Linux

  constructor(dir: string, linux: Linux) {
    this.what = `layout "${dir}"`
    this.#dir = dir
    this.#linux = linux
  }

  async read(name: string, maxBytes: number): Promise<Buffer> {
    const fd = this.#open(name)
    try {
      return this.#linux.readFdBounded(fd, maxBytes, join(this.#dir, name))
    } catch (error) {
      if (!isErrno(error, 'EFBIG')) throw error
      throw new RuntimeError('resource-exhausted', `File "${join(this.#dir, name)}" is larger than ${maxBytes} bytes`, {
        cause: error,
      })
    } finally {
      closeSync(fd)
    }
  }

  stream(name: string, start: number, signal: AbortSignal, end?: number): BlobStream {
    const fd = this.#open(name)
    return {
      offset: start,
      ...(end !== undefined && { end }),
      bytes: filePieces(fd, start, end ?? Number.MAX_SAFE_INTEGER, signal),
      discard: () => closeSync(fd),
    }
  }

  #open(path: string): number {
    try {
      return this.#linux.openBeneath(this.#dir, path, constants.O_RDONLY | constants.O_NONBLOCK, 0, {
        noSymlinks: true,
      })
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error
      throw new RuntimeError('failed-precondition', `Layout "${this.#dir}" has no file "${path}"`, { cause: error })
    }
  }
}
