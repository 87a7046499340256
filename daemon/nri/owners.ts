/** Who set what in one request: no two plugins may set the same, unless the later one says that it removes what was there. */
import { RuntimeError } from '#proto/errors.ts'
import { Field, type FieldOwners, type OwningPlugins } from '#proto/generated/nri.ts'

interface Owned {
  readonly simple: Map<Field, string>
  readonly compound: Map<Field, Map<string, string>>
}

const REMOVED = '-'

/** The name behind the mark of removal, if it has one. */
export const removed = (key: string): string | undefined => (key.startsWith(REMOVED) ? key.slice(1) : undefined)

export const removal = (key: string): string => `${REMOVED}${key}`

export class Owners {
  readonly #byContainer = new Map<string, Owned>()

  /**
   * @param entry of fields that are lists or tables
   * @throws RuntimeError failed-precondition when somebody has it already
   */
  claim(container: string, field: Field, plugin: string, entry?: string): void {
    const holder = this.#get(container, field, entry)
    if (holder !== undefined && removed(holder) !== plugin) {
      const what = entry === undefined ? nameOf(field) : `${nameOf(field)} ${JSON.stringify(entry)}`
      throw new RuntimeError(
        'failed-precondition',
        `NRI plugins "${plugin}" and "${removed(holder) ?? holder}" both set ${what} of container "${container}"`,
      )
    }
    this.#set(container, field, plugin, entry)
  }

  /** The plugin removes what was there: only it may set it again. */
  clear(container: string, field: Field, plugin: string, entry?: string): void {
    this.#set(container, field, removal(plugin), entry)
  }

  /** For what several plugins may add to. */
  join(container: string, field: Field, plugin: string): void {
    const holder = this.#get(container, field)
    this.#set(container, field, holder === undefined ? plugin : `${holder},${plugin}`)
  }

  /** Who set it, of entries the last one; undefined when nobody did. */
  of(container: string, field: Field): string | undefined {
    const owned = this.#byContainer.get(container)
    return owned?.simple.get(field) ?? [...(owned?.compound.get(field)?.values() ?? [])].at(-1)
  }

  toMessage(): OwningPlugins {
    return { owners: Object.fromEntries([...this.#byContainer].map(([id, owned]) => [id, fieldOwners(owned)])) }
  }

  #owned(container: string): Owned {
    const owned = this.#byContainer.get(container) ?? { simple: new Map(), compound: new Map() }
    this.#byContainer.set(container, owned)
    return owned
  }

  #get(container: string, field: Field, entry?: string): string | undefined {
    const owned = this.#byContainer.get(container)
    return entry === undefined ? owned?.simple.get(field) : owned?.compound.get(field)?.get(entry)
  }

  #set(container: string, field: Field, plugin: string, entry?: string): void {
    const owned = this.#owned(container)
    if (entry === undefined) {
      owned.simple.set(field, plugin)
      return
    }
    const entries = owned.compound.get(field) ?? new Map<string, string>()
    owned.compound.set(field, entries.set(entry, plugin))
  }
}

const nameOf = (field: Field): string =>
  Object.entries(Field).find(([, value]) => value === field)?.[0] ?? String(field)

const fieldOwners = ({ simple, compound }: Owned): FieldOwners => ({
  simple: Object.fromEntries(simple),
  compound: Object.fromEntries([...compound].map(([field, owners]) => [field, { owners: Object.fromEntries(owners) }])),
})
