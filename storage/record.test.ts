/** Records that know when they are damaged. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import * as z from 'zod'
import { digestOf } from './digest.ts'
import { readRecord, writeRecord } from './record.ts'

const schema = z.object({ name: z.string(), count: z.int() })
const record = { name: 'ein Stück', count: 7 }

const written = async (t: TestContext): Promise<string> => {
  const directory = mkdtempSync(join(tmpdir(), 'record-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const path = join(directory, 'record.json')
  await writeRecord(path, record, { durable: false })
  return path
}

describe('a record', () => {
  it('is JSON, with its length and checksum, and comes back as it was', async (t) => {
    const path = await written(t)
    const file: unknown = JSON.parse(readFileSync(path, 'utf8'))
    const text = JSON.stringify(record)
    assert.deepEqual(file, { bytes: Buffer.byteLength(text), sha256: digestOf(text).slice(7), record })
    assert.deepEqual(await readRecord(path, schema), { is: 'whole', record })
  })

  it('of before there were lengths is read', async (t) => {
    const path = await written(t)
    const text = JSON.stringify(record)
    writeFileSync(path, `{"sha256":"${digestOf(text).slice(7)}","record":${text}}\n`)
    assert.deepEqual(await readRecord(path, schema), { is: 'whole', record })
  })

  it('is known for damaged whichever of its bytes is changed, and wherever it is cut', async (t) => {
    const path = await written(t)
    const whole = readFileSync(path)
    for (let at = 0; at < whole.length; at++) {
      const spoilt = Buffer.from(whole)
      spoilt[at] = (spoilt[at] ?? 0) ^ 1
      writeFileSync(path, spoilt)
      assert.equal((await readRecord(path, schema)).is, 'damaged', `byte ${at}`)
      writeFileSync(path, whole.subarray(0, at))
      assert.equal((await readRecord(path, schema)).is, 'damaged', `cut at ${at}`)
    }
  })

  it('that is a gigabyte, a link or a pipe is damaged, and not read (P5)', async (t) => {
    const path = await written(t)
    truncateSync(path, 2 ** 30)
    assert.deepEqual(await readRecord(path, schema), { is: 'damaged', why: 'is no file or far too big' })
    for (const make of [() => symlinkSync('/dev/zero', path), () => execFileSync('mkfifo', [path])]) {
      rmSync(path)
      make()
      assert.deepEqual(await readRecord(path, schema), { is: 'damaged', why: 'is no file or far too big' })
    }
  })
})
