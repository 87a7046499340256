/** How an event gets to the plugins: in its turn, and not at all when nobody wants it. */
import { messageOf } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { EventMethod } from './methods.ts'
import type { Plugins } from './plugins.ts'

export class Telling {
  readonly plugins: Plugins
  readonly #log: Log

  constructor(plugins: Plugins, log: Log) {
    this.plugins = plugins
    this.#log = log
  }

  /** @param request made when its turn has come. @throws RuntimeError failed-precondition when a plugin says no */
  async tell<Q, A>(method: EventMethod<Q, A>, request: () => Q | Promise<Q>): Promise<void> {
    if (!this.plugins.wants(method.event)) return
    await this.plugins.turn(async () => this.plugins.tell(method, await request()))
  }

  /** For what is told after the fact: nobody can stop it any more, so objections are only logged. */
  async late<Q, A>(method: EventMethod<Q, A>, request: () => Q | Promise<Q>): Promise<void> {
    await this.logged(method.name, () => this.tell(method, request))
  }

  async logged(what: string, act: () => Promise<unknown>): Promise<void> {
    try {
      await act()
    } catch (error) {
      this.#log.warn('A plugin objects to what has happened already', { event: what, why: messageOf(error) })
    }
  }
}
