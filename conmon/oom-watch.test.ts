/** With files in the place of cgroup v2's: which counts make an end the OOM killer's work. The kernel's own are in the e2e tests. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { OomWatch } from './oom-watch.ts'

const CONTAINER = '/pod.slice/c1.scope'
const killed = { code: 137, signal: 9 }

let root: string
/** What the loop would call when a cgroup tells of a change. */
let listeners: (() => void)[]
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'oom-watch-'))
  listeners = []
  kills('/pod.slice', 0)
  kills(CONTAINER, 0)
})
afterEach(() => rmSync(root, { recursive: true }))

function kills(cgroup: string, count: number): void {
  mkdirSync(join(root, cgroup), { recursive: true })
  writeFileSync(join(root, cgroup, 'memory.events'), `low 0\nhigh 0\nmax 9\noom ${count}\noom_kill ${count}\n`)
}

const remove = (cgroup: string): void => rmSync(join(root, cgroup), { recursive: true })

const watch = (cgroup = CONTAINER): OomWatch => {
  const loop = {
    add: (_fd: number, _interest: number, ready: () => void) => void listeners.push(ready),
    remove: () => {},
  }
  return new OomWatch(loop, cgroup, { version: 2, controllers: new Map([['memory', root]]), unified: root })
}

const tell = (): void => {
  for (const listener of listeners) listener()
}

test('a kill in the container explains its end, but not a good one', () => {
  const oom = watch()
  kills('/pod.slice', 1)
  kills(CONTAINER, 1)
  assert.equal(oom.explains({ code: 0, signal: 0 }), false)
  assert.equal(oom.explains(killed), true)
  oom.close()
})

test('a kill that was seen stays known when the cgroup has gone, and the pod’s with it', () => {
  for (const gone of [CONTAINER, '/pod.slice']) {
    kills('/pod.slice', 0)
    kills(CONTAINER, 0)
    const oom = watch()
    kills('/pod.slice', 1)
    kills(CONTAINER, 1)
    tell()
    remove(gone)
    assert.equal(oom.explains(killed), true, gone)
    oom.close()
    listeners = []
  }
})

test('a kill is found in the count of the pod when the cgroup went before it could be seen', () => {
  for (const cgroup of [CONTAINER, `${CONTAINER}/container`]) {
    kills('/pod.slice', 4)
    kills(cgroup, 0)
    const oom = watch(cgroup)
    kills('/pod.slice', 5)
    remove(CONTAINER)
    assert.equal(oom.explains(killed), true, cgroup)
    oom.close()
  }
})

test('kills in other containers of the pod explain nothing here', () => {
  kills('/pod.slice', 2)
  const oom = watch()
  kills('/pod.slice', 3)
  tell()
  remove(CONTAINER)
  assert.equal(oom.explains(killed), false)
  oom.close()
})

test('nothing is explained when the whole pod has gone', () => {
  kills('/pod.slice', 2)
  const oom = watch()
  remove('/pod.slice')
  tell()
  assert.equal(oom.explains(killed), false)
  oom.close()
})
