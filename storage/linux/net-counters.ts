/** What went through the network interfaces of a network namespace, and which of them leads to the rest of the world. */
import { isErrno } from './errno.ts'
import { HeldFile } from './held-file.ts'
import { inNamespaces } from './namespaces.ts'
import { readKernelFile } from './read-bounded.ts'

/** Since the interface was made. */
export interface Traffic {
  readonly bytes: number
  readonly packets: number
  readonly errors: number
  readonly dropped: number
}

export interface InterfaceCounters {
  readonly name: string
  readonly received: Traffic
  readonly sent: Traffic
}

const MAX_BYTES = 4 * 1024 * 1024
const RTF_UP = 1

/** A name, and of the eight numbers of what was received and the eight of what was sent the first four each. */
const LINE = /^ *([^ ].*): *(\d+) +(\d+) +(\d+) +(\d+)(?: +\d+){4} +(\d+) +(\d+) +(\d+) +(\d+)/gm

/** /proc/net/dev: two header lines, which have no colon, then a line for each interface. */
export const parseNetDev = (text: string): InterfaceCounters[] => {
  const found: InterfaceCounters[] = []
  LINE.lastIndex = 0
  for (let line = LINE.exec(text); line !== null; line = LINE.exec(text)) {
    const [, name = '', bytes, packets, errors, dropped, sentBytes, sentPackets, sentErrors, sentDropped] = line
    found.push({
      name,
      received: { bytes: Number(bytes), packets: Number(packets), errors: Number(errors), dropped: Number(dropped) },
      sent: {
        bytes: Number(sentBytes),
        packets: Number(sentPackets),
        errors: Number(sentErrors),
        dropped: Number(sentDropped),
      },
    })
  }
  return found
}

/** The interface of the default route, the one of version 4 before that of version 6; of several the one with the lowest metric. */
export const defaultInterface = (routes: string, routes6: string): string | undefined =>
  lowest(ipv4Defaults(routes)) ?? lowest(ipv6Defaults(routes6))

interface Route {
  readonly device: string
  readonly metric: number
}

const lowest = (routes: readonly Route[]): string | undefined =>
  routes.toSorted((a, b) => a.metric - b.metric)[0]?.device

/** Interface, destination, gateway, flags, reference count, use, metric, mask …; numbers in hexadecimal but for the metric. */
const ipv4Defaults = (text: string): Route[] =>
  text.split('\n').flatMap((line) => {
    const [device, destination, , flags = '', , , metric, mask] = line.split('\t')
    const isDefault = destination === '00000000' && mask === '00000000' && (Number.parseInt(flags, 16) & RTF_UP) !== 0
    return isDefault && device ? [{ device: device.trim(), metric: Number(metric) }] : []
  })

/** Destination and its length, source and its length, gateway, metric, reference count, use, flags, interface; in hexadecimal. */
const ipv6Defaults = (text: string): Route[] =>
  text.split('\n').flatMap((line) => {
    const [destination = '', length, , , , metric = '', , , flags = '', device] = line.trim().split(/\s+/)
    const isDefault = /^0{32}$/.test(destination) && length === '00' && (Number.parseInt(flags, 16) & RTF_UP) !== 0
    // The kernel's own entry that refuses what has no route is on the loopback.
    return isDefault && device && device !== 'lo' ? [{ device, metric: Number.parseInt(metric, 16) }] : []
  })

const readHere = (file: string): string => readKernelFile(`/proc/thread-self/net/${file}`, MAX_BYTES) ?? ''

const within = <T>(pin: string | undefined, work: () => T): T =>
  pin === undefined ? work() : inNamespaces({ net: pin }, work)

/**
 * The interfaces of a pinned network namespace, or of the host's, to be read again and again: the file is opened inside once. While it is
 * open it keeps the namespace alive, so it must be closed before the namespace is given back.
 */
export class NetCounters {
  readonly #file: HeldFile
  /** Where nothing has moved since, there is nothing new to understand. */
  #last: { readonly text: string; readonly interfaces: readonly InterfaceCounters[] } | undefined

  constructor(pin?: string) {
    this.#file = new HeldFile('/proc/thread-self/net/dev', (open) => within(pin, open))
  }

  /** Undefined when the namespace is gone. */
  read(): readonly InterfaceCounters[] | undefined {
    const text = this.#file.read()
    if (text === undefined) return undefined
    if (this.#last?.text !== text) this.#last = { text, interfaces: parseNetDev(text) }
    return this.#last.interfaces
  }

  close(): void {
    this.#last = undefined
    this.#file.close()
  }
}

export const netCounters = (pin?: string): NetCounters => new NetCounters(pin)

/** The name of the interface that the default route of a namespace goes through. Undefined when the namespace is gone. */
export const defaultInterfaceOf = (pin?: string): string | undefined => {
  try {
    return within(pin, () => defaultInterface(readHere('route'), readHere('ipv6_route')))
  } catch (error) {
    // What is at the pin is no namespace any more.
    if (isErrno(error, 'ENOENT', 'EINVAL')) return undefined
    throw error
  }
}
