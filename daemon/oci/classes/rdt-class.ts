/** The class of cache and memory bandwidth of a container, as the OCI runtime is told. */
import { impossible, invalid, quoted } from '../spec/refuse.ts'
import type { OciRdt } from '../spec/types.ts'
import type { NamedClass } from './class-of.ts'

export interface RdtClass {
  readonly l3CacheSchema?: string | undefined
  readonly memBwSchema?: string | undefined
}

/** @throws RuntimeError failed-precondition where there are no classes, invalid-argument for one that is not among them */
export const rdtClass = (
  classes: Readonly<Record<string, RdtClass>>,
  asked: NamedClass | undefined,
): OciRdt | undefined => {
  if (!asked) return undefined
  const what = `Annotation ${quoted(asked.annotation)}: RDT class ${quoted(asked.name)}`
  const names = Object.keys(classes)
  if (names.length === 0) throw impossible(`${what} cannot be had: this node has no classes (container.rdtClasses)`)
  const found = Object.hasOwn(classes, asked.name) ? classes[asked.name] : undefined
  if (!found) throw invalid(`${what} is not one of ${names.map(quoted).join(', ')}`)
  const { l3CacheSchema, memBwSchema } = found
  return {
    closID: asked.name,
    ...(l3CacheSchema !== undefined && { l3CacheSchema }),
    ...(memBwSchema !== undefined && { memBwSchema }),
  }
}
