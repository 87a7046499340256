/** Signal names and numbers of Linux (the same on x86_64 and arm64), as images and requests spell them. */

// The place in the list is the number.
const NAMES =
  '0 HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS'.split(
    ' ',
  )
const ALIASES: Record<string, number> = { IOT: 6, CLD: 17, POLL: 29, RTMIN: 34, RTMAX: 64 }
// 32 and 33 belong to the C library; what programs call SIGRTMIN is 34.
const RTMIN = 34
const RTMAX = 64

const isSignal = (number: number): boolean => Number.isInteger(number) && number >= 1 && number <= RTMAX

const realtime = (name: string): number | undefined => {
  const parts = /^RT(MIN\+|MAX-)(\d{1,2})$/.exec(name)
  if (parts === null) return undefined
  const offset = Number(parts[2])
  const number = parts[1] === 'MIN+' ? RTMIN + offset : RTMAX - offset
  return number >= RTMIN && number <= RTMAX ? number : undefined
}

/** The number of a signal given as "SIGTERM", "term", "15", 15 or "SIGRTMIN+3"; undefined when there is no such signal. */
export const signalNumber = (signal: string | number): number | undefined => {
  if (typeof signal === 'number') return isSignal(signal) ? signal : undefined
  const text = signal.trim().toUpperCase()
  if (/^\d{1,2}$/.test(text)) return signalNumber(Number(text))
  const name = text.startsWith('SIG') ? text.slice(3) : text
  const place = NAMES.indexOf(name)
  if (place > 0) return place
  return (Object.hasOwn(ALIASES, name) ? ALIASES[name] : undefined) ?? realtime(name)
}

/** The name of a signal: "SIGTERM", "SIGRTMIN+3"; "SIG<n>" for a number without a name. */
export const signalName = (number: number): string => {
  const name = number > 0 ? NAMES[number] : undefined
  if (name !== undefined) return `SIG${name}`
  if (number === RTMIN) return 'SIGRTMIN'
  if (number === RTMAX) return 'SIGRTMAX'
  return number > RTMIN && number < RTMAX ? `SIGRTMIN+${number - RTMIN}` : `SIG${number}`
}
