import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { generate, staleFiles } from './generate.ts'

const program = join(import.meta.dirname, 'generate.ts')

const check = (directory: string): Promise<{ code: unknown; stderr: string }> =>
  new Promise((done) => {
    execFile(process.execPath, [program, '--check', directory], (error, _stdout, stderr) =>
      done({ code: error === null ? 0 : error.code, stderr }),
    )
  })

test('the committed code is what the .proto files generate', async () => {
  assert.deepEqual(await staleFiles(), [])
})

test('generated code passes the check; a changed and a superfluous file do not', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'cricket-generate-test-'))
  t.after(() => rm(directory, { recursive: true, force: true }))
  await generate(directory)
  assert.deepEqual(await check(directory), { code: 0, stderr: '' })

  await appendFile(join(directory, 'api.ts'), '\n')
  await writeFile(join(directory, 'old.ts'), '')
  const { code, stderr } = await check(directory)
  assert.equal(code, 1)
  assert.match(stderr, /api\.ts' is not what the \.proto files generate\n.*old\.ts'/)
})
