/** The log file of a container as the kubelet reads it. */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { useWorld } from './harness.ts'
import { containerConfig, podConfig, readLog, removePod, startPod, untilExited } from './pods.ts'

describe('a container', () => {
  const world = useWorld()
  const start = async (name: string, command: string[], overrides: Parameters<typeof containerConfig>[3] = {}) =>
    startPod(world.cri, await podConfig(world.site, name), containerConfig('main', world.image, command, overrides))

  it('writes its log in CRI format: both streams, exact bytes, long lines in parts, an unfinished last line', async () => {
    const script = `echo to stdout; echo to stderr >&2; printf ' \\ttabs and spaces \\n\\n'; head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished`
    const pod = await start('log', ['sh', '-c', script])
    await untilExited(world.cri, pod.containerId)
    const records = await readLog(pod.logPath)
    const contents = records.filter(({ stream }) => stream === 'stdout').map(({ content }) => content)
    const long = records.filter(({ content }) => content.includes('xxx'))
    assert.deepEqual(
      records.filter(({ stream }) => stream === 'stderr').map(({ tag, content }) => [tag, content]),
      [['F', 'to stderr']],
    )
    assert.deepEqual(contents.slice(0, 3), ['to stdout', ' \ttabs and spaces ', ''])
    assert.equal(long.map(({ content }) => content).join(''), 'x'.repeat(40_000))
    assert.deepEqual(
      long.map(({ tag }) => tag),
      ['P', 'P', 'F'],
    )
    assert.ok(long.every(({ content }) => content.length <= 16_384))
    assert.equal(records.at(-1)?.content, 'unfinished')
    const times = records.map(({ time }) => time)
    assert.deepEqual(times, times.toSorted())
    await removePod(world.cri, pod.sandboxId)
  })

  it('with a terminal writes to the log what the terminal shows', async () => {
    const pod = await start('tty', ['sh', '-c', 'test -t 0 && test -t 1 && echo on a terminal'], {
      tty: true,
      stdin: true,
    })
    const exited = await untilExited(world.cri, pod.containerId)
    assert.equal(exited.exitCode, 0)
    const [record] = await readLog(pod.logPath)
    assert.equal(record?.stream, 'stdout')
    assert.equal(record?.content.trimEnd(), 'on a terminal')
    await removePod(world.cri, pod.sandboxId)
  })
})
