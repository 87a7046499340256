/** `cricket check`: by the running daemon, or alone when none runs. */
import { request } from 'node:http'
import { json, text } from 'node:stream/consumers'
import { isErrno } from '#linux/errno.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { CommandLine } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import { pathsUnder } from '../paths.ts'
import { storageOptions } from '../storage-options.ts'
import { type CheckReport, checkOffline } from './check-node.ts'
import { CHECK_PATH, REPAIR_PATH } from './serve-checks.ts'

/** What the command ends with when damage is left. */
const DAMAGE_LEFT = 3

/** @returns the text to print; sets the exit code: 3 when damage is left */
export async function checkCommand({ flags, switches }: CommandLine): Promise<string> {
  const config = loadConfig({ flags })
  const paths = pathsUnder(config.root, config.state, config.storage.containersRoot)
  const repair = switches.has('repair')
  const report =
    (await askDaemon(paths.checkSocket, repair)) ?? (await checkOffline(paths, storageOptions(config), repair))
  if (report.findings.length > 0 && !report.repaired) process.exitCode = DAMAGE_LEFT
  return switches.has('json') ? `${JSON.stringify(report)}\n` : describe(report)
}

/** undefined: no daemon runs. */
function askDaemon(socketPath: string, repair: boolean): Promise<CheckReport | undefined> {
  return new Promise((resolve, reject) => {
    const path = repair ? REPAIR_PATH : CHECK_PATH
    const asking = request({ socketPath, path, method: 'POST' }, async (response) => {
      try {
        if (response.statusCode === 200) resolve((await json(response)) as CheckReport)
        else reject(new RuntimeError('internal', `The daemon cannot check: ${await text(response)}`))
      } catch (error) {
        reject(error)
      }
    })
    asking.once('error', (error) => {
      if (isErrno(error, 'ENOENT', 'ECONNREFUSED')) resolve(undefined)
      else reject(new RuntimeError('unavailable', `No answer on "${socketPath}": ${error.message}`, { cause: error }))
    })
    asking.end()
  })
}

function describe({ findings, looked, pullAgain, repaired, withoutManifest }: CheckReport): string {
  const seen = Object.entries(looked).map(([what, count]) => `${count} ${what}`)
  const lines = [`Looked at ${seen.join(', ')}.`]
  if (withoutManifest > 0) lines.push(`${withoutManifest} layers have no manifest yet: of them only the record.`)
  lines.push(findings.length === 0 ? 'Nothing is damaged.' : `Damaged, or nobody's: ${findings.length}`)
  for (const { kind, id, why, remedy } of findings) lines.push(`  ${kind} ${id}: ${why} → ${remedy}`)
  if (findings.length > 0) lines.push(repaired ? 'Repaired.' : 'Nothing was changed; "cricket check --repair" repairs.')
  for (const name of pullAgain) lines.push(`To be pulled again: ${name}`)
  return `${lines.join('\n')}\n`
}
