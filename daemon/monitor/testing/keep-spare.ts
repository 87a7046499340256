/** A process that keeps one spare monitor, says its pid, and waits to be killed. Arguments: the monitor's program. */
import { linux } from '#linux/linux.ts'
import { silentLog } from '#proto/log.ts'
import { SpareMonitors } from '../spare-monitors.ts'

const [path = '', ...args] = process.argv.slice(2)
const spares = new SpareMonitors({ program: { path, args }, linux, log: silentLog, count: 1 })
spares.refill()
console.log(spares.waiting.join())
setInterval(() => {}, 60_000)
