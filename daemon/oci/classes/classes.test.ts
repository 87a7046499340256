/** Classes of cache, memory bandwidth and block I/O: who names them, which there are, what becomes of them. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { blockIoOf, blockioClass } from './blockio-class.ts'
import { parseBlockioFile } from './blockio-file.ts'
import { classOf } from './class-of.ts'
import { rdtClass } from './rdt-class.ts'

const dir = mkdtempSync(join(tmpdir(), 'cricket-classes-'))
after(() => rmSync(dir, { recursive: true, force: true }))

const refused = (kind: 'invalid-argument' | 'failed-precondition', pattern: RegExp) => (error: unknown) =>
  isKind(error, kind) && pattern.test(error.message)

test('the container comes before its pod, and the word for one container before that for all', () => {
  const pod = {
    'rdt.resources.beta.kubernetes.io/pod': 'all',
    'rdt.resources.beta.kubernetes.io/container.web': 'one',
    'rdt.resources.beta.kubernetes.io/container.other': 'no',
    'blockio.resources.beta.kubernetes.io/pod': 'slow',
  }
  const named = (container: Record<string, string>, containerName: string) =>
    classOf('rdt', { pod, container, containerName })?.name
  assert.equal(named({ 'io.kubernetes.cri.rdt-class': 'own' }, 'web'), 'own')
  assert.equal(named({}, 'web'), 'one')
  assert.equal(named({}, 'db'), 'all')
  assert.equal(classOf('blockio', { pod, container: {}, containerName: 'db' })?.name, 'slow')
  assert.equal(classOf('blockio', { pod: {}, container: {}, containerName: 'constructor' }), undefined)
})

test('RDT classes are a closed set', () => {
  const asked = { name: 'gold', annotation: 'a' }
  assert.equal(rdtClass({}, undefined), undefined)
  assert.deepEqual(rdtClass({ gold: { l3CacheSchema: 'L3:0=ff' } }, asked), {
    closID: 'gold',
    l3CacheSchema: 'L3:0=ff',
  })
  assert.throws(() => rdtClass({}, asked), refused('failed-precondition', /"a".*"gold".*container\.rdtClasses/))
  assert.throws(() => rdtClass({ silver: {} }, asked), refused('invalid-argument', /"gold" is not one of "silver"/))
  assert.throws(() => rdtClass({ silver: {} }, { ...asked, name: '__proto__' }), refused('invalid-argument', /silver/))
})

const FILE = `
Classes:
  slow:
    - Weight: 80
    - Devices: [/dev/vda, /dev/none]
      ThrottleReadBps: 60M
      ThrottleWriteIOPS: 2k
      Weight: 50
    - Devices: [/dev/vda]
      ThrottleReadBps: 1Mi
  empty: []
`

test('a class of block I/O is a weight and limits by device; the last entry for a device counts', () => {
  const warnings: string[] = []
  const find = (pattern: string) => (pattern === '/dev/vda' ? [{ major: 254, minor: 0 }] : [])
  const { slow = [], empty = [] } = parseBlockioFile(FILE)
  assert.deepEqual(
    blockIoOf(slow, find, (why) => warnings.push(why)),
    {
      weight: 80,
      weightDevice: [{ major: 254, minor: 0, weight: 50 }],
      throttleReadBpsDevice: [{ major: 254, minor: 0, rate: 1_048_576 }],
      throttleWriteIOPSDevice: [{ major: 254, minor: 0, rate: 2000 }],
    },
  )
  assert.deepEqual(warnings, ['Block I/O class: "/dev/none" is no block device of this host'])
  assert.deepEqual(
    blockIoOf(empty, find, () => {}),
    {},
  )
})

test('a file that has not the form is refused', () => {
  for (const text of [
    'Classes: 3',
    'Clases: {}',
    'Classes: {a: [{Weight: 5}]}',
    'Classes: {a: [{Weight: 2000}]}',
    'Classes: {a: [{ThrottleReadBps: 60M}]}',
    'Classes: {a: [{Devices: [/dev/x], ThrottleReadBps: 60 M}]}',
    'Classes: {a: [{Devices: [/etc/passwd], ThrottleReadBps: 60M}]}',
    'Classes: {a: [{Devices: [/dev/x], Throttle: 60M}]}',
    '{',
  ]) {
    assert.throws(() => parseBlockioFile(text), Error, text)
  }
  assert.deepEqual(parseBlockioFile(''), {})
})

test('the file is read when a container names a class, and who cannot have one is told why', () => {
  const path = join(dir, 'blockio.yaml')
  const asked = { name: 'slow', annotation: 'a' }
  const made = () => blockioClass(path, asked, () => {})
  assert.equal(
    blockioClass(undefined, undefined, () => {}),
    undefined,
  )
  assert.throws(
    () => blockioClass(undefined, asked, () => {}),
    refused('failed-precondition', /container\.blockioConfig/),
  )
  assert.throws(made, refused('failed-precondition', /blockio\.yaml/))
  writeFileSync(path, 'Classes: {fast: []}')
  assert.throws(made, refused('invalid-argument', /"slow" is not one of "fast"/))
  writeFileSync(path, FILE)
  assert.equal(made()?.weight, 80)
})
