import assert from 'node:assert/strict'
import { test } from 'node:test'
import { crashPoint } from './crash-point.ts'
import { Operations } from './operations.ts'

test('an operation is listed with its stage until it ends', () => {
  const operations = new Operations()
  {
    using first = operations.begin('RunPodSandbox', 'default/web')
    using _second = operations.begin('StopContainer', 'abc')
    first.enter('network')
    assert.deepEqual(
      operations.list().map(({ name, object, stage }) => [name, object, stage]),
      [
        ['RunPodSandbox', 'default/web', 'network'],
        ['StopContainer', 'abc', 'begun'],
      ],
    )
  }
  assert.deepEqual(operations.list(), [])
})

test('a crash point kills at its stage, the given time', () => {
  let kills = 0
  const operations = new Operations(crashPoint('RunPodSandbox/network#2', () => kills++))
  const run = (name: string, stage: string) => {
    using operation = operations.begin(name, 'x')
    operation.enter(stage)
  }
  run('RunPodSandbox', 'network')
  run('RunPodSandbox', 'files')
  run('StopPodSandbox', 'network')
  assert.equal(kills, 0)
  run('RunPodSandbox', 'network')
  assert.equal(kills, 1)
  run('RunPodSandbox', 'network')
  assert.equal(kills, 1)
})

test('without the variable there is no crash point', () => {
  assert.equal(crashPoint(undefined, assert.fail), undefined)
  assert.equal(crashPoint('', assert.fail), undefined)
})

test('"list" names the stages and kills nobody', () => {
  const lines: string[] = []
  const operations = new Operations(crashPoint('list', assert.fail, (line) => lines.push(line)))
  using operation = operations.begin('RunPodSandbox', 'x')
  operation.enter('record')
  assert.deepEqual(lines, ['stage RunPodSandbox/record\n'])
})
