/** `cricket image load FILE`: has the running daemon load images, so that the kubelet sees them at once. */
import { request } from 'node:http'
import { resolve } from 'node:path'
import { json } from 'node:stream/consumers'
import { RuntimeError } from '#proto/errors.ts'
import type { CommandLine } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import { pathsUnder } from '../paths.ts'
import { LOAD_PATH, LoadAnswer } from './serve-loads.ts'

/**
 * @param file as written; the daemon opens it
 * @returns a line for each image: its id and its names
 * @throws RuntimeError unavailable when no daemon runs, else what the daemon says
 */
export async function loadCommand({ flags, switches, values }: CommandLine, file: string): Promise<string> {
  const { root, state } = loadConfig({ flags })
  const asked = {
    path: resolve(file),
    pin: switches.has('pin'),
    ...(values.name !== undefined && { name: values.name }),
  }
  const answer = LoadAnswer.parse(await ask(pathsUnder(root, state).loadSocket, asked))
  if ('message' in answer) {
    throw new RuntimeError(
      answer.kind === 'invalid-argument' ? 'invalid-argument' : 'failed-precondition',
      answer.message,
    )
  }
  return answer.loaded.map(({ id, names }) => `${[id, ...names].join('  ')}\n`).join('')
}

function ask(socketPath: string, body: object): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path: LOAD_PATH, method: 'POST' }, (response) => {
      json(response).then(resolve, reject)
    })
    asking.once('error', (cause) =>
      reject(new RuntimeError('unavailable', `No daemon answers on "${socketPath}": ${cause.message}`, { cause })),
    )
    asking.end(JSON.stringify(body))
  })
}
