import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clean, maxComplaintBytes, runtimeFailure } from './runtime-complaint.ts'

const failure = (log: string, stderr = '') =>
  runtimeFailure(
    'Cannot create container "c"',
    Buffer.from(log),
    Buffer.from(stderr),
    'the runtime ended with exit code 1',
  )

const entry = (msg: string, level = 'error') => `${JSON.stringify({ level, msg })}\n`

test('a command that cannot be executed is the user\u2019s mistake', () => {
  const said = [
    'runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH',
    'runc create failed: unable to start container process: exec: "/etc": permission denied',
    'runc create failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory',
    'runc create failed: unable to start container process: exec /bad: exec format error',
    'executable file `nope` not found in $PATH: No such file or directory',
  ]
  for (const message of said) {
    assert.deepEqual(failure(entry(message)), {
      kind: 'failed-precondition',
      message: `Cannot create container "c": ${message}`,
    })
  }
})

test('anything else is ours', () => {
  assert.equal(failure(entry('unable to apply cgroup configuration: no such file or directory')).kind, 'internal')
})

test('the last error counts, not a warning after it; without one the standard error does', () => {
  assert.match(failure(entry('first') + entry('second') + entry('third', 'warning'), 'noise').message, /: second$/)
  assert.match(failure(entry('careful', 'warning'), 'from stderr\n').message, /: from stderr$/)
  assert.match(failure('', ' \n').message, /: the runtime ended with exit code 1$/)
  assert.match(failure('{"level":"error"}\n[1]\nnull\n"x"\n{', 'from stderr').message, /: from stderr$/)
})

test('messages are clean and bounded', () => {
  assert.equal(clean('\u001b[1;31mred\u001b[0m a\u0000b\r\nc\u202ed\u009b'), 'red a b c d')
  const { message } = failure(entry('é'.repeat(10_000)))
  assert.ok(Buffer.byteLength(message) <= maxComplaintBytes)
  assert.ok(message.endsWith('é…'))
})
