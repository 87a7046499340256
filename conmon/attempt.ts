/** A step of many, whose failure is told and stops nothing. */
import { errnoOf } from '#linux/errno.ts'
import type { Report } from './report.ts'

export async function attempt(
  report: Report,
  what: string,
  work: () => Promise<void> | void | undefined,
): Promise<void> {
  try {
    await work()
  } catch (error) {
    report(`cannot ${what}: ${errnoOf(error) ?? String(error)}`)
  }
}
