/**
 * Bind mounts made from descriptors (open_tree, Linux 5.2), so that nobody can put something else in the path's place, and
 * with other owners than on the disk (id-mapped mounts, Linux 5.12): no file is changed for it.
 */
import { closeSync } from 'node:fs'
import { isErrno } from './errno.ts'
import { AT_FDCWD, rawSys, sys, sysOn } from './sys.ts'
import { type IdMap, openUserNamespace } from './user-namespace.ts'

const OPEN_TREE_CLONE = 1
const O_CLOEXEC = 0x80000
const AT_EMPTY_PATH = 0x1000
const AT_RECURSIVE = 0x8000
const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40
const MOUNT_ATTR_RDONLY = 1
const MS_PRIVATE = 1 << 18
const MS_SLAVE = 1 << 19
const MOUNT_ATTR_IDMAP = 0x100000

export interface BindTree {
  /** A path, or a descriptor of the place (O_PATH will do). */
  readonly source: string | number
  /** A directory or a file, as the source is: its path, or a descriptor (O_PATH will do). */
  readonly target: string | number
  /** Whether mounts below the source come along; they keep their owners. */
  readonly recursive?: boolean
  readonly readonly?: boolean
  /** Of the new mounts; private unless given, so that nothing done to them reaches the source. */
  readonly propagation?: 'private' | 'slave'
  readonly idMap?: IdMap | undefined
}

/** Throws LinuxError; EINVAL when the file system of the source cannot map ids. Leaves nothing behind on failure. */
export const bindTree = (request: BindTree): void => {
  const { source, target, recursive = false, readonly = false, propagation = 'private', idMap } = request
  const tree = cloneTree(source, recursive)
  try {
    setAttributes(tree, { readonly, idMap })
    setPropagation(tree, propagation)
    attach(tree, target)
  } finally {
    closeSync(tree)
  }
}

const attach = (tree: number, target: string | number): void => {
  if (typeof target === 'string') sysOn(target, 'move_mount', tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
  else sys('move_mount', tree, '', target, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
}

const cloneTree = (source: string | number, recursive: boolean): number => {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
  return typeof source === 'number'
    ? sys('open_tree', source, '', flags | AT_EMPTY_PATH)
    : sysOn(source, 'open_tree', AT_FDCWD, source, flags)
}

const setAttributes = (tree: number, { readonly, idMap }: { readonly: boolean; idMap: IdMap | undefined }): void => {
  if (!readonly && !idMap) return
  const namespace = idMap && openUserNamespace(idMap)
  try {
    // struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    const attributes = Buffer.alloc(32)
    attributes.writeBigUInt64LE(BigInt((readonly ? MOUNT_ATTR_RDONLY : 0) | (idMap ? MOUNT_ATTR_IDMAP : 0)), 0)
    attributes.writeBigUInt64LE(BigInt(namespace ?? 0), 24)
    sys('mount_setattr', tree, '', AT_EMPTY_PATH, attributes, attributes.length)
  } finally {
    if (namespace !== undefined) closeSync(namespace)
  }
}

const setPropagation = (tree: number, propagation: 'private' | 'slave'): void => {
  const attributes = Buffer.alloc(32)
  attributes.writeBigUInt64LE(BigInt(propagation === 'slave' ? MS_SLAVE : MS_PRIVATE), 16)
  sys('mount_setattr', tree, '', AT_EMPTY_PATH | AT_RECURSIVE, attributes, attributes.length)
}

/** Whether the file system that holds this directory can show its files with other owners. Changes nothing. */
export const canMapIds = (directory: string): boolean => {
  const tree = rawSys('open_tree', AT_FDCWD, directory, OPEN_TREE_CLONE | O_CLOEXEC)
  if (tree < 0) return false
  try {
    setAttributes(tree, { readonly: false, idMap: PROBE })
    return true
  } catch (error) {
    if (isErrno(error, 'EINVAL', 'EPERM', 'ENOSYS', 'ENOSPC', 'EUSERS')) return false
    throw error
  } finally {
    closeSync(tree)
  }
}

const PROBE: IdMap = { uids: { hostId: 100_000, size: 1 }, gids: { hostId: 100_000, size: 1 } }
