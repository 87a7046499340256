/** Kinds of values that several parts of the schema use. */
import { posix } from 'node:path'
import * as z from 'zod'

export const tidyPath = (path: string): string =>
  path.startsWith('/') ? posix.normalize(path).replace(/(?<=.)\/+$/, '') : path

export const isAbsolutePath = (path: string): boolean => path.startsWith('/') && !path.includes('\0')

export const absolutePath = () =>
  z.string().overwrite(tidyPath).refine(isAbsolutePath, { error: 'must be an absolute path' })

/** A directory of ours, which must not be the root of everything. */
export const directory = () =>
  absolutePath().refine((path) => path !== '/', { error: 'must not be the root directory' })

/** A mapping of keys. A section that is left empty in the file (all its keys commented out) counts as not set. */
export const section = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.preprocess((value) => value ?? {}, z.strictObject(shape))

/** A mapping from names that the operator chooses. */
export const table = <Key extends z.core.$ZodRecordKey, Value extends z.core.SomeType>(key: Key, value: Value) =>
  z.preprocess((given) => given ?? {}, z.record(key, value))

/** The longest path that fits into the kernel's `sockaddr_un`, its closing NUL not counted. */
export const MAX_SOCKET_PATH_BYTES = 107

export const socketPath = () =>
  z
    .string()
    .overwrite((address) => tidyPath(address.replace(/^unix:\/\//, '')))
    .refine(isAbsolutePath, { error: 'must be the absolute path of a unix socket, with or without "unix://"' })
    .refine((path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES, {
      error: `must not be longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
    })
