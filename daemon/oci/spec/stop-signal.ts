/** The signal that asks the container to end: the request's, else the image's, else SIGTERM. */
import { signalName, signalNumber } from '#linux/signals.ts'
import { Signal } from '#proto/generated/api.ts'
import { invalid, quoted } from './refuse.ts'

export interface StopSignal {
  /** A name such as "SIGTERM" or "SIGRTMIN+3". */
  readonly name: string
  readonly warnings: readonly string[]
}

/** The enum's values are not the kernel's numbers: only its names say anything. */
const NAMES = new Map<number, string>(Object.entries(Signal).map(([name, value]) => [value, name]))

/**
 * @param ownDefault what the program is known to expect
 * @throws RuntimeError invalid-argument for a signal that the CRI does not know
 */
export const stopSignal = (requested: Signal, imageSignal: string, ownDefault = 'SIGTERM'): StopSignal => {
  if (requested !== Signal.RUNTIME_DEFAULT) return { name: requestedName(requested), warnings: [] }
  if (imageSignal === '') return { name: ownDefault, warnings: [] }
  const number = signalNumber(imageSignal)
  if (number !== undefined) return { name: signalName(number), warnings: [] }
  return { name: 'SIGTERM', warnings: [`Image has the stop signal ${quoted(imageSignal)}; SIGTERM is used`] }
}

/** "SIGRTMINPLUS3" of the enum is "SIGRTMIN+3" to everybody else. */
const requestedName = (requested: Signal): string => {
  const name = NAMES.get(requested)?.replace('PLUS', '+').replace('MINUS', '-')
  const number = name === undefined ? undefined : signalNumber(name)
  if (number === undefined) throw invalid(`stop_signal ${requested} is unknown`)
  return signalName(number)
}
