/**
 * What of the annotations of a pod has any effect on its containers: nothing that the runtime handler, or the workload that
 * the pod belongs to, does not allow by name. Pure.
 */
import { FEATURES, type Feature, type FeatureValues, featureNames } from './features.ts'

export type Annotations = Readonly<Record<string, string>>

export interface AllowInput {
  readonly pod: Annotations
  /** Of the container itself, which the kubelet and its device plugins write. */
  readonly container: Annotations
  readonly containerName: string
  /** Names, or beginnings of names that end in "*". */
  readonly patterns: readonly string[]
}

export interface AllowedAnnotations {
  readonly features: FeatureValues
  /** What the OCI runtime is handed besides. */
  readonly passed: Annotations
  /** Names of features that the pod asks for in vain. */
  readonly ignored: readonly string[]
}

/** Our own words in the spec, and what makes systemd run programs of the pod's choice as root (CVE-2024-3154). */
const NEVER_PASSED = ['io.cricket.', 'io.kubernetes.cri.', 'io.kubernetes.cri-o.', 'org.systemd.property.']

const matches = (name: string, pattern: string): boolean =>
  pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern

/** Several names of one feature are one thing to allow. */
const isAllowed = (feature: Feature, patterns: readonly string[]): boolean =>
  FEATURES[feature].some((name) => patterns.some((pattern) => matches(name, pattern)))

/** The word for this container comes before the word for all of the pod. */
const askedFor = (
  feature: Feature,
  { pod, containerName }: AllowInput,
): { name: string; value: string } | undefined => {
  const names = FEATURES[feature].flatMap((name) => [`${name}/${containerName}`, name])
  const ordered = [...names.filter((name) => name.includes('/')), ...names.filter((name) => !name.includes('/'))]
  for (const name of ordered) {
    const value = Object.hasOwn(pod, name) ? pod[name] : undefined
    if (value !== undefined) return { name, value }
  }
  return undefined
}

const isFeatureName = (key: string): boolean =>
  featureNames().some((feature) => FEATURES[feature].some((name) => key === name || key.startsWith(`${name}/`)))

const isPassed = (key: string, patterns: readonly string[]): boolean =>
  patterns.some((pattern) => matches(key, pattern)) &&
  !NEVER_PASSED.some((prefix) => key.startsWith(prefix)) &&
  !isFeatureName(key)

export const allowAnnotations = (input: AllowInput): AllowedAnnotations => {
  const features: Partial<Record<Feature, string>> = {}
  const ignored: string[] = []
  for (const feature of featureNames()) {
    const found = askedFor(feature, input)
    if (!found) continue
    if (isAllowed(feature, input.patterns)) features[feature] = found.value
    else ignored.push(found.name)
  }
  const all = { ...input.pod, ...input.container }
  const passed = Object.fromEntries(Object.entries(all).filter(([key]) => isPassed(key, input.patterns)))
  return { features, passed, ignored }
}
