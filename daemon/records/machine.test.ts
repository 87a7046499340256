import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { claimRecords } from './machine.ts'

const [OURS, OTHER] = ['0123456789abcdef'.repeat(2), 'fedcba9876543210'.repeat(2)]

async function aRoot(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'cricket-machine-'))
  t.after(() => rm(root, { recursive: true }))
  const machineIdFile = join(root, 'etc-machine-id')
  const claim = async (machine: string, records: number) => {
    await writeFile(machineIdFile, `${machine}\n`)
    await claimRecords({ linux, root, records, machineIdFile })
    return (await readFile(join(root, 'machine-id'), 'utf8').catch(() => '')).trim()
  }
  return { root, claim }
}

test('a machine claims a new directory, one of its own, and one of before there were claims', async (t) => {
  const { claim } = await aRoot(t)
  assert.equal(await claim(OURS, 3), OURS)
  assert.equal(await claim(OURS, 3), OURS)
})

test('P8: pods of another machine are refused, with what to do; a disk with images only is taken over', async (t) => {
  const { root, claim } = await aRoot(t)
  await claim(OTHER, 0)
  await assert.rejects(
    claim(OURS, 1),
    (error) => isKind(error, 'failed-precondition') && error.message.includes(join(root, 'machine-id')),
  )
  assert.equal(await claim(OURS, 0), OURS)
})

test('a machine that does not know who it is claims nothing', async (t) => {
  const { claim } = await aRoot(t)
  for (const nobody of ['', 'uninitialized']) assert.equal(await claim(nobody, 1), '')
})
