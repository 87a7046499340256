/**
 * The latest events, kept for subscribers who are behind: one log for all of them, so that its bounds are those of the whole. Who falls
 * behind further than the log goes back is told so, by an error, and has to begin anew; nothing is ever left out silently.
 */
import { RuntimeError } from '#proto/errors.ts'

/** Where a subscriber's events go. */
export interface EventSink {
  /** Says whether more may follow at once; if not, `resume` says when. */
  write(event: Uint8Array): boolean
  /** The last thing that is told. */
  fail(error: RuntimeError): void
}

export interface EventLogLimits {
  readonly events: number
  readonly bytes: number
  readonly subscribers: number
}

/** A node starts some dozens of containers a second at most, and a kubelet reads as fast as it can. */
const LIMITS: EventLogLimits = { events: 1_000, bytes: 4 * 1024 * 1024, subscribers: 100 }

/** One who listens from the moment of `subscribe` on. */
export class Subscriber {
  readonly sink: EventSink
  /** The number of the event that is next. */
  next: number
  isWaiting = false

  constructor(sink: EventSink, next: number) {
    this.sink = sink
    this.next = next
  }
}

export class EventLog {
  readonly #limits: EventLogLimits
  readonly #subscribers = new Set<Subscriber>()
  /** In their order, the first with the number `#first`. */
  #events: Uint8Array[] = []
  #first = 0
  #bytes = 0
  #isClosed = false

  constructor(limits: Partial<EventLogLimits> = {}) {
    this.#limits = { ...LIMITS, ...limits }
  }

  /** Whether anybody listens: if not, events need not be made. */
  get isHeard(): boolean {
    return this.#subscribers.size > 0
  }

  /** @throws RuntimeError resource-exhausted when there are as many subscribers as may be, unavailable at the end */
  subscribe(sink: EventSink): Subscriber {
    if (this.#isClosed) throw ending()
    if (this.#subscribers.size >= this.#limits.subscribers) {
      throw new RuntimeError(
        'resource-exhausted',
        `There are ${this.#subscribers.size} subscribers to container events, which is all that may be`,
      )
    }
    const subscriber = new Subscriber(sink, this.#first + this.#events.length)
    this.#subscribers.add(subscriber)
    return subscriber
  }

  /** Repeatable. */
  unsubscribe(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
    this.#trim()
  }

  append(event: Uint8Array): void {
    if (!this.isHeard) return
    this.#events.push(event)
    this.#bytes += event.length
    for (const subscriber of this.#subscribers) this.#deliver(subscriber)
    this.#trim()
    while (this.#events.length > 1 && this.#isTooLong()) this.#dropFirst()
    for (const subscriber of this.#subscribers) if (subscriber.next < this.#first) this.#giveUp(subscriber)
  }

  /** The subscriber's sink takes more. */
  resume(subscriber: Subscriber): void {
    subscriber.isWaiting = false
    if (!this.#subscribers.has(subscriber)) return
    this.#deliver(subscriber)
    this.#trim()
  }

  /** Tells all subscribers that there will be no more. */
  close(): void {
    this.#isClosed = true
    for (const subscriber of this.#subscribers) subscriber.sink.fail(ending())
    this.#subscribers.clear()
    this.#trim()
  }

  #deliver(subscriber: Subscriber): void {
    while (!subscriber.isWaiting) {
      const event = this.#events[subscriber.next - this.#first]
      if (event === undefined) return
      subscriber.next++
      subscriber.isWaiting = !subscriber.sink.write(event)
    }
  }

  #giveUp(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
    const missed = this.#first - subscriber.next
    subscriber.sink.fail(
      new RuntimeError(
        'resource-exhausted',
        `The subscriber does not read: ${missed} events are lost to it; list the containers and subscribe again`,
      ),
    )
  }

  #isTooLong(): boolean {
    return this.#events.length > this.#limits.events || this.#bytes > this.#limits.bytes
  }

  /** Forgets what everybody has. */
  #trim(): void {
    let needed = this.#first + this.#events.length
    for (const { next } of this.#subscribers) needed = Math.min(needed, next)
    while (this.#first < needed) this.#dropFirst()
  }

  #dropFirst(): void {
    this.#bytes -= this.#events.shift()?.length ?? 0
    this.#first++
  }
}

const ending = (): RuntimeError => new RuntimeError('unavailable', 'The daemon is stopping')
