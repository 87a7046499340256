/**
 * What the node's settings were before containers changed them, on the disk, so that they can be put back by a later daemon.
 * Settings of the kernel end with the boot; the file of irqbalance does not.
 */
import { renameSync } from 'node:fs'
import * as z from 'zod'
import { readFileIfExistsSync, writeFileAtomicSync } from '#linux/atomic-file.ts'

const document = z.object({
  version: z.literal(1),
  bootId: z.string(),
  /** By the path of the file. */
  settings: z.record(z.string(), z.string()),
  /** IRQBALANCE_BANNED_CPUS; null: the line was not there. */
  irqbalance: z.string().nullish(),
})

type Document = z.infer<typeof document>

/** A damaged file is put aside: what it held can only be guessed. */
const readDocument = (path: string): Document | undefined => {
  const bytes = readFileIfExistsSync(path)
  if (bytes === undefined) return undefined
  try {
    return document.parse(JSON.parse(bytes.toString('utf8')))
  } catch {
    renameSync(path, `${path}.damaged`)
    return undefined
  }
}

export class Originals {
  readonly #path: string
  #kept: Document

  constructor(path: string, bootId: string) {
    this.#path = path
    const found = readDocument(path)
    const settings = found?.bootId === bootId ? found.settings : {}
    this.#kept = { version: 1, bootId, settings, irqbalance: found?.irqbalance }
  }

  get irqbalance(): string | null | undefined {
    return this.#kept.irqbalance
  }

  /** undefined: forgotten. */
  keepIrqbalance(value: string | null | undefined): void {
    if (value === this.#kept.irqbalance) return
    this.#kept = { ...this.#kept, irqbalance: value }
    this.#write()
  }

  setting(path: string): string | undefined {
    return Object.hasOwn(this.#kept.settings, path) ? this.#kept.settings[path] : undefined
  }

  paths(): string[] {
    return Object.keys(this.#kept.settings)
  }

  /** Durable before the setting is changed. What is kept already stays. */
  keep(values: Readonly<Record<string, string>>): void {
    const fresh = Object.entries(values).filter(([path]) => this.setting(path) === undefined)
    if (fresh.length === 0) return
    this.#kept = { ...this.#kept, settings: { ...this.#kept.settings, ...Object.fromEntries(fresh) } }
    this.#write()
  }

  forget(paths: readonly string[]): void {
    const left = Object.entries(this.#kept.settings).filter(([path]) => !paths.includes(path))
    if (left.length === this.paths().length) return
    this.#kept = { ...this.#kept, settings: Object.fromEntries(left) }
    this.#write()
  }

  #write(): void {
    // The file of irqbalance outlives a power cut, so what was in it has to as well.
    writeFileAtomicSync(this.#path, JSON.stringify(this.#kept), { mode: 0o600, durable: true })
  }
}
