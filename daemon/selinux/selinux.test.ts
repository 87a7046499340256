/** Levels of pods, what may be relabelled, and trees that are: attributes are real, whether the host has SELinux or not. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { lgetXattr, lsetXattr } from '#linux/xattr.ts'
import { isKind } from '#proto/errors.ts'
import { ContainerConfig, type DeepPartial, type Mount } from '#proto/generated/api.ts'
import { ATTRIBUTE, labelTree } from './label-tree.ts'
import { freeLevel, pairLevel } from './pod-level.ts'
import { checkRelabel } from './protected-trees.ts'
import { relabel } from './relabel.ts'
import { type RelabelReport, relabelAll } from './relabel-command.ts'
import { treesToLabel } from './relabel-volumes.ts'
import { makeRelabelling } from './testing/relabelling.ts'

const top = mkdtempSync(join(tmpdir(), 'cricket-selinux-'))
after(() => rmSync(top, { recursive: true, force: true }))

const LABEL = 'system_u:object_r:container_file_t:s0:c1,c2'
const OTHER = 'system_u:object_r:default_t:s0'
const labelOf = (path: string): string | undefined => lgetXattr(path, ATTRIBUTE)?.toString().replace('\0', '')
const setLabel = (path: string, label: string) => lsetXattr(path, ATTRIBUTE, Buffer.from(`${label}\0`))

const canLabel = (): boolean => {
  try {
    setLabel(top, OTHER)
    return true
  } catch {
    return false
  }
}
const skip = canLabel() ? false : 'host lacks root, or a file system with labels'

test('each pair of categories is a level of its own', () => {
  assert.deepEqual([0, 1, 2, 3, 523_775].map(pairLevel), [
    's0:c0,c1',
    's0:c0,c2',
    's0:c1,c2',
    's0:c0,c3',
    's0:c1022,c1023',
  ])
  const all = new Set(Array.from({ length: 5000 }, (_, n) => pairLevel(n)))
  assert.equal(all.size, 5000)
  for (const level of all) assert.match(level, /^s0:c\d+,c\d+$/)
})

test('a level is given to one pod at a time', () => {
  const taken = new Set<string>()
  for (let pod = 0; pod < 2000; pod++) {
    const level = freeLevel(taken)
    assert.ok(!taken.has(level))
    taken.add(level)
  }
  assert.equal(freeLevel(new Set(['s0:c0,c1', 's0:c0,c2']), 0), 's0:c1,c2')
  assert.equal(freeLevel(new Set(['s0:c1022,c1023']), 523_775), 's0:c0,c1')
})

test('what belongs to the node, or to the daemon, is never relabelled', () => {
  const own = ['/var/lib/cricket', '/run/cricket']
  const refused = [
    '/',
    '/etc',
    '/etc/hosts',
    '/usr',
    '/usr/share/x',
    '/home',
    '/var/lib',
    '/var',
    '/proc/1',
    '/dev/sda',
  ]
  for (const path of [...refused, '/run/cricket/containers', '/var/lib/cricket', '/run']) {
    assert.throws(
      () => checkRelabel('mounts[0]', path, own),
      (error) => isKind(error, 'invalid-argument'),
      path,
    )
  }
  for (const path of [
    '/home/me/data',
    '/var/lib/kubelet/pods/u/volumes/x',
    '/srv/data',
    '/run/cricketer',
    '/etcetera',
  ]) {
    checkRelabel('mounts[0]', path, own)
  }
})

test('volumes are relabelled when they ask for it, unless the container is not confined', () => {
  const config = ContainerConfig.fromPartial({
    mounts: [
      { containerPath: '/a', hostPath: '/srv/link', selinuxRelabel: true },
      { containerPath: '/b', hostPath: '/srv/b' },
      { containerPath: '/c', image: { image: 'x' }, selinuxRelabel: true },
    ] satisfies DeepPartial<Mount>[],
  })
  const sources = new Map([[0, { path: '/srv/a', propagation: 'private' as const }]])
  const labels = { process: 'system_u:system_r:container_t:s0:c1,c2', mount: LABEL, trustTop: false, own: [] }
  assert.deepEqual(treesToLabel(config, sources, labels), [{ path: '/srv/a', label: LABEL, trustTop: false }])
  assert.deepEqual(treesToLabel(config, sources, { ...labels, process: 'system_u:system_r:spc_t:s0' }), [])
  assert.deepEqual(treesToLabel(config, sources, { ...labels, process: undefined, mount: undefined }), [])
  const etc = ContainerConfig.fromPartial({ mounts: [{ hostPath: '/etc/hosts', selinuxRelabel: true }] })
  assert.throws(() => treesToLabel(etc, new Map(), labels), /belongs to the node/)
})

const run = (path: string, trustTop = false): RelabelReport[] => {
  const reports: RelabelReport[] = []
  const was = process.cwd()
  relabelAll({ trees: [{ path, label: LABEL, trustTop }] }, (report) => reports.push(report))
  process.chdir(was)
  return reports
}

const makeTree = (name: string, files = 3): string => {
  const path = join(top, name)
  mkdirSync(join(path, 'deep/er'), { recursive: true })
  for (let index = 0; index < files; index++) writeFileSync(join(path, 'deep', `f${index}`), '')
  return path
}

test('a tree is labelled throughout, links themselves and not what they lead to', { skip }, () => {
  const outside = join(top, 'outside')
  writeFileSync(outside, '')
  setLabel(outside, OTHER)
  const tree = makeTree('links')
  symlinkSync(outside, join(tree, 'link'))
  symlinkSync('/', join(tree, 'root'))
  execFileSync('mkfifo', [join(tree, 'fifo')])
  const [report] = run(tree)
  assert.deepEqual(report, { report: 'done', tree: 0, seen: 9, changed: 9 })
  for (const name of ['', 'deep', 'deep/f0', 'deep/er', 'link', 'root', 'fifo']) {
    assert.equal(labelOf(join(tree, name)), LABEL, name)
  }
  assert.equal(labelOf(outside), OTHER)
  assert.notEqual(labelOf('/'), LABEL)
})

test('one file is a tree, too; a top that has become a link is refused', { skip }, () => {
  const file = join(top, 'file')
  writeFileSync(file, '')
  assert.deepEqual(run(file), [{ report: 'done', tree: 0, seen: 1, changed: 1 }])
  assert.equal(labelOf(file), LABEL)
  const link = join(top, 'turned')
  makeTree('target')
  symlinkSync('target', link)
  assert.equal(run(link)[0]?.report, 'failed')
  assert.notEqual(labelOf(join(top, 'target')), LABEL)
})

test('a run that was cut short is finished by the next, and a labelled top is trusted only when asked for', {
  skip,
}, () => {
  const tree = makeTree('resumed', 50)
  setLabel(tree, OTHER)
  for (let index = 0; index < 20; index++) setLabel(join(tree, 'deep', `f${index}`), LABEL)
  // The top comes last: as long as anything is missing it does not say otherwise.
  assert.deepEqual(run(tree, true), [{ report: 'done', tree: 0, seen: 53, changed: 33 }])
  assert.equal(labelOf(tree), LABEL)
  setLabel(join(tree, 'deep/f7'), OTHER)
  assert.deepEqual(run(tree, true), [{ report: 'done', tree: 0, seen: 0, changed: 0 }])
  assert.equal(labelOf(join(tree, 'deep/f7')), OTHER)
  assert.deepEqual(run(tree), [{ report: 'done', tree: 0, seen: 53, changed: 1 }])
})

test('as long as anything in a tree is missing its top has no label', { skip }, () => {
  const tree = makeTree('interrupted', 20)
  setLabel(tree, OTHER)
  const was = process.cwd()
  const cutShort = ({ seen }: { seen: number }) => {
    if (seen === 15) throw new Error('cut short')
  }
  assert.throws(() => labelTree({ path: tree, label: LABEL, trustTop: true }, cutShort), /cut short/)
  process.chdir(was)
  assert.equal(labelOf(tree), OTHER)
  assert.deepEqual(run(tree, true), [{ report: 'done', tree: 0, seen: 23, changed: 8 }])
})

test('the helper does it in a process of its own', { skip }, async () => {
  const tree = makeTree('helped')
  const { options, said } = makeRelabelling()
  await relabel([{ path: tree, label: LABEL, trustTop: false }], options)
  assert.equal(labelOf(join(tree, 'deep/f1')), LABEL)
  assert.deepEqual(said, [`Relabelled ${tree} 6 6`])
  await assert.rejects(
    relabel([{ path: join(top, 'missing'), label: LABEL, trustTop: false }], options),
    (error) => isKind(error, 'failed-precondition') && error.message.includes('missing'),
  )
})

test('a helper that says nothing is killed, one that tells of progress is waited for', async () => {
  const tree = { path: '/srv/x', label: LABEL, trustTop: false }
  const line = (seen: number) => JSON.stringify({ report: 'progress', tree: 0, seen, changed: 0 })
  const done = JSON.stringify({ report: 'done', tree: 0, seen: 9, changed: 9 })
  const slow = `for i in 1 2 3 4 5; do sleep 0.5; echo '${line(1)}'; done; echo '${done}'`
  const { options, said } = makeRelabelling(['/bin/sh', '-c', slow])
  await relabel([tree], { ...options, silenceMs: 1900 })
  assert.equal(said.length, 6)
  const silent = makeRelabelling(['/bin/sh', '-c', `echo '${line(1)}'; sleep 600`])
  await assert.rejects(
    relabel([tree], { ...silent.options, silenceMs: 300 }),
    (error) => isKind(error, 'deadline-exceeded') && error.message.includes('/srv/x'),
  )
  for (const broken of ['exit 3', 'echo nonsense', 'true']) {
    const { options: bad } = makeRelabelling(['/bin/sh', '-c', broken])
    await assert.rejects(relabel([tree], bad), (error) => isKind(error, 'internal'), broken)
  }
  assert.equal(lstatSync('/').isDirectory(), true)
})
