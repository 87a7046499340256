/** Classes of cache, memory bandwidth and block I/O: who names them, which there are, what becomes of them. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { deviceNumber } from '../resolve-devices.ts'
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
  const own = { 'io.kubernetes.cri.blockio-class': 'own' }
  assert.equal(classOf('blockio', { pod, container: own, containerName: 'db' })?.name, 'own')
  assert.equal(classOf('blockio', { pod: {}, container: {}, containerName: 'constructor' }), undefined)
})

test('RDT classes are a closed set', () => {
  const asked = { name: 'gold', annotation: 'a' }
  assert.equal(rdtClass({}, undefined), undefined)
  assert.deepEqual(rdtClass({ gold: { l3CacheSchema: 'L3:0=ff' } }, asked), {
    closID: 'gold',
    l3CacheSchema: 'L3:0=ff',
  })
  const both = { l3CacheSchema: 'L3:0=ff', memBwSchema: 'MB:0=50' }
  assert.deepEqual(rdtClass({ gold: both }, asked), { closID: 'gold', ...both })
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

test('each limit has its own field, each device its own limits, and each unit its size', () => {
  const disks = [
    { major: 8, minor: 0 },
    { major: 8, minor: 16 },
  ]
  const text = `Classes: {c: [{Weight: 90}, {Devices: [/dev/sd], ThrottleReadBps: 3k, ThrottleWriteBps: 4K, ThrottleReadIOPS: 5Ki,
    ThrottleWriteIOPS: 6G, Weight: 70}, {Devices: [/dev/none]}, {}]}`
  const of = (rate: number) => disks.map((disk) => ({ ...disk, rate }))
  assert.deepEqual(
    blockIoOf(
      parseBlockioFile(text).c ?? [],
      (pattern) => (pattern === '/dev/sd' ? disks : []),
      () => {},
    ),
    {
      weight: 90,
      weightDevice: disks.map((disk) => ({ ...disk, weight: 70 })),
      throttleReadBpsDevice: of(3000),
      throttleWriteBpsDevice: of(4000),
      throttleReadIOPSDevice: of(5120),
      throttleWriteIOPSDevice: of(6_000_000_000),
    },
  )
  const rate = (word: string | number) =>
    parseBlockioFile(`Classes: {c: [{Devices: [/dev/x], ThrottleReadBps: ${word}}]}`).c?.[0]?.ThrottleReadBps
  assert.deepEqual(['1T', '2Gi', '3Ti', 4].map(rate), [1e12, 2 * 2 ** 30, 3 * 2 ** 40, 4])
  assert.throws(() => rate('999999999999999T'), /must be a number/)
})

test('a pattern names block devices alone, and each once', (t) => {
  const entries = readdirSync('/dev', { withFileTypes: true })
  const disk = entries.find((entry) => entry.isBlockDevice())?.name
  if (disk === undefined) return t.skip('host lacks a block device')
  const path = join(dir, 'devices.yaml')
  const link = `/dev/shm/cricket-test-${process.pid}`
  symlinkSync(join('/dev', disk), link)
  t.after(() => rmSync(link, { force: true }))
  const warnings: string[] = []
  const made = (patterns: string[]) => {
    writeFileSync(path, `Classes: {c: [{Devices: ${JSON.stringify(patterns)}, ThrottleReadBps: 1M}]}`)
    return blockioClass(path, { name: 'c', annotation: 'a' }, (why) => warnings.push(why))?.throttleReadBpsDevice
  }
  const { rdev } = statSync(join('/dev', disk))
  const found = made([`/dev/{${disk},shm/${basename(link)}}`]) ?? []
  assert.deepEqual(found, [{ ...deviceNumber(rdev), rate: 1e6 }])
  assert.deepEqual(warnings, [])
  rmSync(link)
  symlinkSync('nowhere', link)
  assert.deepEqual(made([`/dev/{${disk},shm/${basename(link)}}`]), found)
  assert.equal(made(['/dev/null']), undefined)
  assert.deepEqual(warnings, ['Block I/O class: "/dev/null" is no block device of this host'])
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
  const named = (name: string) => () => blockioClass(path, { ...asked, name }, () => {})
  assert.throws(named('constructor'), refused('invalid-argument', /"constructor" is not one of "fast"/))
  writeFileSync(path, FILE)
  assert.equal(made()?.weight, 80)
})
