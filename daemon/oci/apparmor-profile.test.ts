import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { loadDefaultProfile, PROFILE_NAME, profileText } from './apparmor-profile.ts'

const parser = '/usr/sbin/apparmor_parser'
const skip = !existsSync(parser) && 'host lacks apparmor_parser'

test('the profile is in the language of the parser', { skip }, async () => {
  for (const abi of [undefined, '/etc/apparmor.d/abi/3.0']) {
    if (abi !== undefined && !existsSync(abi)) continue
    const result = await linux.runCommand(parser, ['--skip-kernel-load', '--skip-cache', '--names'], {
      input: profileText(abi),
    })
    assert.equal(result.stderr.toString(), '')
    assert.equal(result.stdout.toString(), `${PROFILE_NAME}\n`)
  }
})

test('nothing is loaded where AppArmor is off', async () => {
  const runCommand = () => assert.fail('a program was run')
  assert.equal(
    await loadDefaultProfile({ runCommand }, { ...linux.probeHost(), apparmor: false }, silentLog),
    undefined,
  )
})

test('without the profile the daemon goes on, and says so', {
  skip: linux.probeHost().apparmor && 'host has it',
}, async () => {
  const warnings: unknown[] = []
  const log = { ...silentLog, warn: (...words: unknown[]) => void warnings.push(words) }
  const runCommand = () => Promise.reject(new Error('no such program'))
  assert.equal(await loadDefaultProfile({ runCommand }, { ...linux.probeHost(), apparmor: true }, log), undefined)
  assert.equal(warnings.length, 1)
})
