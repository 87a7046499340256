/** The line of irqbalance's configuration that keeps it off processors: `IRQBALANCE_BANNED_CPUS=<mask>`. Pure. */

const LINE = /^[ \t]*(?:export[ \t]+)?IRQBALANCE_BANNED_CPUS[ \t]*=[ \t]*(.*?)[ \t]*$/

/** The mask without its quotation marks; null when there is no such line. */
export const bannedIn = (text: string): string | null => {
  const found = text.split('\n').findLast((line) => LINE.test(line))
  return found === undefined ? null : (LINE.exec(found)?.[1] ?? '').replace(/^(["'])(.*)\1$/, '$2')
}

/** The text with that line, or without any when the mask is null. Everything else stays. */
export const withBanned = (text: string, mask: string | null): string => {
  const lines = text.split('\n')
  const rest = lines.filter((line) => !LINE.test(line))
  if (mask === null) return rest.join('\n')
  const place = lines.findIndex((line) => LINE.test(line))
  const line = `IRQBALANCE_BANNED_CPUS="${mask}"`
  if (place >= 0) return rest.toSpliced(place, 0, line).join('\n')
  return `${text === '' || text.endsWith('\n') ? text : `${text}\n`}${line}\n`
}
