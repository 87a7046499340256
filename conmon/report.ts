/** The monitor's own few words, on its standard error, which is `conmon.log` in the container's state directory. */
import { writeSync } from 'node:fs'

export type Report = (message: string) => void

/** So that a fault that repeats itself cannot fill the disk. */
const maxReports = 200

export function openReport(): Report {
  let left = maxReports
  return (message) => {
    if (left <= 0) return
    left--
    try {
      writeSync(2, `${new Date().toISOString()} ${message}\n`)
    } catch {
      // Nobody to tell that there is nobody to tell.
    }
  }
}
