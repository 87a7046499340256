/** Looks at the records of sandboxes or containers on the disk, beside whoever works with them. Changes nothing. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isErrno } from '#linux/errno.ts'
import { messageOf } from '#proto/errors.ts'
import type { Finding } from '#storage/check/finding.ts'
import { unseal } from '#storage/record.ts'

const FILES = ['config.json', 'status.json']
const ASIDE = 'quarantine'

export async function checkRecords(dir: string): Promise<{ findings: Finding[]; looked: number }> {
  const findings: Finding[] = []
  const ids = (await unlessMissing(readdir(dir)))?.filter((name) => name !== ASIDE) ?? []
  for (const id of ids)
    for (const file of FILES) {
      const path = join(dir, id, file)
      const why = await whyDamaged(path)
      if (why !== undefined) findings.push({ kind: 'record', id, path, why, remedy: 'write anew' })
    }
  return { findings, looked: ids.length }
}

async function whyDamaged(path: string): Promise<string | undefined> {
  try {
    const file = await unlessMissing(readFile(path, 'utf8'))
    const found = file === undefined ? undefined : unseal(file)
    return found?.is === 'damaged' ? found.why : undefined
  } catch (error) {
    return `cannot be read: ${messageOf(error)}`
  }
}

/** One that is not there was removed, or is not yet made. */
const unlessMissing = <T>(reading: Promise<T>): Promise<T | undefined> =>
  reading.catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  })
