import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { linux } from '#linux/linux.ts'
import { isKind } from '#proto/errors.ts'
import { fillTemplate, parsePodCidr, updatePodCidr } from './config-template.ts'

const plugin = { type: 'bridge', ipam: { type: 'host-local', ranges: '$POD_CIDR_RANGES', routes: '$POD_ROUTES' } }
const TEMPLATE = JSON.stringify({ cniVersion: '1.0.0', name: 'pods', plugins: [plugin] })

test('the ranges take the places that stand for them', () => {
  const template = TEMPLATE.replace(
    '"bridge"',
    '"bridge","first":"$POD_CIDR","six":"$POD_CIDR_V6","note":"$POD_CIDR here"',
  )
  const filled = JSON.parse(fillTemplate(template, parsePodCidr('10.1.0.0/24, fd00:1::/64')))
  const { first, six, note, ipam } = filled.plugins[0]
  assert.deepEqual([first, six, note], ['10.1.0.0/24', 'fd00:1::/64', '$POD_CIDR here'])
  assert.deepEqual(ipam.ranges, [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]])
  assert.deepEqual(ipam.routes, [{ dst: '0.0.0.0/0' }, { dst: '::/0' }])
})

test('what is no range is refused by its value', () => {
  for (const bad of ['10.1.0.0', '10.1.0.0/33', 'pods/24', '10.1.0.0/24/8', 'fd00::/129', '10.1.0.0/24;x']) {
    const refused = (error: Error) => isKind(error, 'invalid-argument') && error.message.includes(JSON.stringify(bad))
    assert.throws(() => parsePodCidr(bad), refused)
  }
  assert.deepEqual(parsePodCidr(''), [])
})

test('the file is written once, atomically, and only for a template', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-template-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const configDir = join(dir, 'net.d')
  const confTemplate = join(dir, 'template')
  const needs = (template?: string) => ({ linux, config: { network: { configDir, confTemplate: template } } })
  await updatePodCidr(needs(), '10.1.0.0/24')
  writeFileSync(confTemplate, TEMPLATE)
  await updatePodCidr(needs(confTemplate), '')
  assert.deepEqual(readdirSync(dir), ['template'])
  await updatePodCidr(needs(confTemplate), '10.1.0.0/24')
  const file = join(configDir, '99-cricket.conflist')
  const first = statSync(file)
  assert.match(readFileSync(file, 'utf8'), /10\.1\.0\.0\/24/)
  await updatePodCidr(needs(confTemplate), '10.1.0.0/24')
  assert.equal(statSync(file).ino, first.ino)
  await updatePodCidr(needs(confTemplate), '10.2.0.0/24')
  assert.match(readFileSync(file, 'utf8'), /10\.2\.0\.0\/24/)
  assert.deepEqual(readdirSync(configDir), ['99-cricket.conflist'])
})

test('a template that makes no network is refused by its name, and nothing is written', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-template-'))
  t.after(() => rmSync(dir, { recursive: true }))
  const confTemplate = join(dir, 'template')
  const needs = { linux, config: { network: { configDir: dir, confTemplate } } }
  const refused = (error: Error) => isKind(error, 'failed-precondition') && error.message.includes(confTemplate)
  await assert.rejects(updatePodCidr(needs, '10.1.0.0/24'), refused)
  for (const bad of [
    '{',
    '{"name":"pods"}',
    TEMPLATE.replace('"bridge"', '"../sh"'),
    TEMPLATE.replace('"bridge"', '"$POD_CIDR_V6"'),
  ]) {
    writeFileSync(confTemplate, bad)
    await assert.rejects(updatePodCidr(needs, '10.1.0.0/24'), refused)
  }
  assert.deepEqual(readdirSync(dir), ['template'])
})
