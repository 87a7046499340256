/**
 * The helper that follows paths on file systems which may not answer: a process of its own, as only a process can be given up.
 * Reads a request from standard input, says one line for each path, in order.
 */
import { readFileSync } from 'node:fs'
import { messageOf } from '#proto/errors.ts'
import { existingPath } from './existing-path.ts'
import { type Resolved, ResolveRequest } from './resolve-apart.ts'

const say = (resolved: Resolved): void => void process.stdout.write(`${JSON.stringify(resolved)}\n`)

async function followAll(): Promise<void> {
  for (const { path, mayMake } of ResolveRequest.parse(JSON.parse(readFileSync(0, 'utf8')))) {
    try {
      say({ path: await existingPath(path, mayMake) })
    } catch (error) {
      say({ error: messageOf(error) })
    }
  }
}

void followAll()
