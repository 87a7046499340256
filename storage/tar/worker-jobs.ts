/** What the store asks of its worker threads. Paths are absolute, on the host, and of our own making. */
import type { ErrorKind } from '#proto/errors.ts'
import type { Differences } from '../check/describe-tree.ts'
import type { CopyRequest } from '../snapshot/copy-trees.ts'
import type { Usage } from '../tree/measure-tree.ts'
import type { ExtractLimits } from './extract-files.ts'
import type { FixedUp, FixUpRequest } from './fix-up.ts'
import type { UnpackLimits } from './limits.ts'
import type { PackedTree, PackLimits } from './pack-tree.ts'
import type { UnpackedLayer } from './unpack-messages.ts'

export interface Jobs {
  /** Unpacks an archive of what a container wrote into an empty directory; layers are unpacked by processes, see unpack-pool.ts. */
  unpack: {
    readonly request: {
      readonly blob: string
      readonly directory: string
      /** Hidden besides what the archive hides. One character per byte. */
      readonly whiteouts?: readonly string[]
      readonly limits: UnpackLimits
    }
    readonly reply: UnpackedLayer
  }
  /** Makes the directories whose attributes a stack of layers gets wrong, and files that its topmost layer links to; see fix-up.ts. */
  'fix-up': {
    readonly request: FixUpRequest & { readonly directory: string; readonly recursive: boolean }
    readonly reply: FixedUp
  }
  /** Removes everything in a directory. */
  empty: { readonly request: { readonly directory: string }; readonly reply: { readonly failures: string[] } }
  /** Layers with other owners, or applied one after the other; see snapshot/copy-trees.ts. */
  copy: { readonly request: CopyRequest; readonly reply: Usage }
  /** Describes a layer's tree; see check/describe-tree.ts. */
  describe: {
    readonly request: { readonly directory: string; readonly known: ReadonlyMap<string, string> }
    readonly reply: { readonly manifest: Uint8Array }
  }
  /** Compares a layer's tree with its manifest. */
  compare: {
    readonly request: { readonly directory: string; readonly manifest: Uint8Array }
    readonly reply: Differences
  }
  /** Writes an archive of a directory to an open file. */
  pack: {
    readonly request: { readonly directory: string; readonly output: number; readonly limits: PackLimits }
    readonly reply: PackedTree
  }
  /** Unpacks an archive, read from an open file, that may hold regular files and directories only, into an empty directory. */
  extract: {
    readonly request: { readonly archive: number; readonly directory: string; readonly limits: ExtractLimits }
    readonly reply: { readonly bytes: number }
  }
  measure: { readonly request: { readonly directory: string }; readonly reply: Usage }
}

export type JobName = keyof Jobs
export type RequestOf<N extends JobName> = Jobs[N]['request']
export type ReplyOf<N extends JobName> = Jobs[N]['reply']

/** Main thread → worker. `cancel[0]` becomes 1 when nobody wants the result any more. */
export type WorkerRequest = {
  [N in JobName]: { readonly job: N; readonly request: RequestOf<N>; readonly cancel: Int32Array }
}[JobName]

/** Worker → main thread. Errors travel as kind and message, or as code when the file system was at fault. */
export type WorkerReply =
  | { readonly ok: true; readonly reply: ReplyOf<JobName> }
  | { readonly ok: false; readonly kind?: ErrorKind; readonly code?: string; readonly message: string }
