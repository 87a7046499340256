/** Opens the storage named on the command line in a process of its own and says how that went; then waits to be killed. For tests. */
import { linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage } from '../storage.ts'

try {
  await openStorage({ root: process.argv[2] ?? '', linux, log: silentLog })
  console.log('open')
  setInterval(() => {}, 1_000_000)
} catch (error) {
  console.log(error instanceof RuntimeError ? `${error.kind}: ${error.message}` : String(error))
}
