/** A table of texts, such as annotations or sysctls, after an adjustment: "-" before a key removes it. */
import { removed } from './owners.ts'

export const adjustedTable = (
  table: Readonly<Record<string, string>>,
  wanted: Readonly<Record<string, string>>,
): Record<string, string> => {
  const gone = new Set(Object.keys(wanted).flatMap((key) => removed(key) ?? []))
  const kept = Object.entries(table).filter(([key]) => !gone.has(key))
  const added = Object.entries(wanted).filter(([key]) => removed(key) === undefined)
  return Object.fromEntries([...kept, ...added])
}
