/** Looks at the image records on the disk, beside whoever works with them. Changes nothing. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import type { Stack } from '#storage/check/check-storage.ts'
import type { Finding } from '#storage/check/finding.ts'
import { readRecord } from '#storage/record.ts'
import { storedRecordField } from './image-record.ts'
import { RECORD_FILE, recordFile } from './image-records.ts'

export interface CheckedImages {
  readonly findings: readonly Finding[]
  /** What those need whose record is whole. */
  readonly stacks: readonly (Stack & { readonly names: readonly string[] })[]
}

/** @param root directory of the records; one that is not there has none */
export const checkImages = async (root: string): Promise<CheckedImages> => {
  const findings: Finding[] = []
  const stacks: (Stack & { names: string[] })[] = []
  for (const name of await namesIn(root)) {
    const path = join(root, name)
    const found = await readRecord(path, storedRecordField)
    if (found.is === 'missing') continue
    if (found.is === 'whole' && recordFile(found.record.image.id) === name) {
      const { id, diffIds, repoTags, repoDigests } = found.record.image
      stacks.push({ id, path, layers: diffIds, names: [...repoTags, ...repoDigests] })
      continue
    }
    const why = found.is === 'damaged' ? found.why : 'is of another image'
    findings.push({ kind: 'image', id: name, path, why: `record ${why}`, remedy: 'write anew' })
  }
  return { findings, stacks }
}

const namesIn = async (root: string): Promise<string[]> => {
  try {
    return (await readdir(root)).filter((name) => RECORD_FILE.test(name)).sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}
