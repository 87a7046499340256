/**
 * One file per attached sandbox: with which configuration and arguments ADD was called, so that DEL can be called with the
 * same after a restart, a reboot or a change of the configuration. A second file holds what ADD returned.
 */
import { mkdirSync, readdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import type { Linux } from '#linux/linux.ts'
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import { sealed, unseal } from '#storage/record.ts'
import { PodAttachment } from './attachment.ts'
import { NetworkConfig } from './cni-config.ts'
import { CniResult } from './cni-result.ts'

const AttachmentRecord = z.object({
  version: z.literal(1),
  attachment: PodAttachment,
  config: NetworkConfig,
})

export interface AttachmentRecord {
  attachment: PodAttachment
  config: NetworkConfig
}

export type RecordRead =
  | { state: 'absent' }
  /** The file is there but cannot be understood. It still says that something was attached. */
  | { state: 'damaged' }
  | { state: 'present'; record: AttachmentRecord; result: CniResult | undefined }

export interface AttachmentRecords {
  read(sandboxId: string): Promise<RecordRead>
  /** On disk for good when it returns. */
  writeIntent(record: AttachmentRecord): Promise<void>
  writeResult(sandboxId: string, result: CniResult): Promise<void>
  remove(sandboxId: string): Promise<void>
  /** Sandboxes with a record. */
  list(): string[]
  /** Those of them for which an ADD began and did not return, as far as is known. */
  listUnfinished(): string[]
}

const SUFFIX = '.json'
const RESULT_SUFFIX = '.result'

export type RecordsLinux = Pick<Linux, 'readFileIfExists' | 'writeFileAtomic'>

/** Records of before had no checksum. @throws Error when it is damaged */
const parsed = <Schema extends z.ZodType>(schema: Schema, bytes: Buffer): z.output<Schema> => {
  const found = unseal(bytes.toString())
  if (found.is === 'damaged') throw new Error(`The file ${found.why}`)
  return schema.parse(found.content)
}

/** Opens the records in `dir`, which is created when absent. */
export const openAttachmentRecords = (dir: string, linux: RecordsLinux, log: Log): AttachmentRecords => {
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const recordPath = (id: string) => join(dir, `${id}${SUFFIX}`)
  const resultPath = (id: string) => join(dir, `${id}${RESULT_SUFFIX}`)

  const list = (): string[] =>
    readdirSync(dir)
      .filter((name) => name.endsWith(SUFFIX) && !name.startsWith('.'))
      .map((name) => name.slice(0, -SUFFIX.length))

  const readResult = async (id: string): Promise<CniResult | undefined> => {
    try {
      const bytes = await linux.readFileIfExists(resultPath(id))
      return bytes && parsed(CniResult, bytes)
    } catch (error) {
      // Plugins must cope without it; all that counts is the record beside it.
      log.warn('Ignore damaged CNI result', { sandbox: id, error })
      return undefined
    }
  }

  return {
    async read(id) {
      const bytes = await linux.readFileIfExists(recordPath(id))
      if (bytes === undefined) return { state: 'absent' }
      try {
        const { attachment, config } = parsed(AttachmentRecord, bytes)
        return { state: 'present', record: { attachment, config }, result: await readResult(id) }
      } catch (error) {
        log.warn('Cannot read network record', { sandbox: id, reason: messageOf(error) })
        return { state: 'damaged' }
      }
    },
    async writeIntent(record) {
      const path = recordPath(record.attachment.sandboxId)
      await linux.writeFileAtomic(path, sealed(JSON.stringify({ version: 1, ...record })), { durable: true })
    },
    async writeResult(id, result) {
      // Not durable: a power cut that loses it takes the network namespace along, and DEL then needs the record only.
      await linux.writeFileAtomic(resultPath(id), sealed(JSON.stringify(result)))
    },
    async remove(id) {
      try {
        await rm(resultPath(id), { force: true })
        await rm(recordPath(id), { force: true })
      } catch (error) {
        // The pod is detached all the same: who finds the record once more detaches it once more.
        if (!isErrno(error, 'EROFS')) throw error
        log.warn('Cannot remove a network record from a read-only disk', { sandbox: id })
      }
    },
    list,
    listUnfinished: () => {
      const names = new Set(readdirSync(dir))
      return list().filter((id) => !names.has(`${id}${RESULT_SUFFIX}`))
    },
  }
}
