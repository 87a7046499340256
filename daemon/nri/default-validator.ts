/** What this node does not let plugins do, whichever they are, and which plugins its containers cannot do without. */
import { parse } from 'yaml'
import * as z from 'zod'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import {
  type Container,
  type ContainerAdjustment,
  Field,
  type PodSandbox,
  SecurityProfile_ProfileType,
} from '#proto/generated/nri.ts'
import type { Owners } from './owners.ts'

export interface ValidatorRules {
  readonly enabled: boolean
  readonly rejectOciHooks: boolean
  readonly rejectRuntimeDefaultSeccomp: boolean
  readonly rejectUnconfinedSeccomp: boolean
  readonly rejectCustomSeccomp: boolean
  readonly rejectNamespaces: boolean
  readonly rejectSysctls: boolean
  readonly rejectRdt: boolean
  readonly requiredPlugins: readonly string[]
  readonly tolerateMissingPluginsAnnotation?: string | undefined
}

export interface Judged {
  readonly pod: PodSandbox | undefined
  /** Before any adjustment. */
  readonly container: Container
  readonly adjustment: ContainerAdjustment
  readonly owners: Owners
  /** By name without index: who was asked, and is there still. */
  readonly plugins: ReadonlySet<string>
}

/** The annotation by which a pod names further plugins that it needs. */
const REQUIRED_PLUGINS = 'required-plugins.noderesource.dev'

/** @throws RuntimeError failed-precondition with the first rule that is broken, and by whom */
export function validate(rules: ValidatorRules, judged: Judged): void {
  if (!rules.enabled) return
  for (const { field, what, isForbidden } of fieldRules(rules, judged)) {
    const offender = isForbidden ? judged.owners.of(judged.container.id, field) : undefined
    if (offender !== undefined) reject(`plugin "${offender.replace(/^-/, '')}" adjusts ${what}, which the node forbids`)
  }
  requirePlugins(rules, judged)
}

const reject = (why: string): never => {
  throw new RuntimeError('failed-precondition', `NRI: ${why}`)
}

const fieldRules = (rules: ValidatorRules, { container }: Judged) => [
  { field: Field.OciHooks, what: 'OCI hooks', isForbidden: rules.rejectOciHooks },
  { field: Field.SeccompPolicy, ...seccompRule(rules, container) },
  { field: Field.Namespace, what: 'namespaces', isForbidden: rules.rejectNamespaces },
  { field: Field.Sysctl, what: 'kernel parameters', isForbidden: rules.rejectSysctls },
  ...[Field.RdtClosID, Field.RdtSchemata, Field.RdtEnableMonitoring, Field.RdtClass].map((field) => ({
    field,
    what: 'cache and memory bandwidth (RDT)',
    isForbidden: rules.rejectRdt,
  })),
]

function seccompRule(rules: ValidatorRules, { linux }: Container): { what: string; isForbidden: boolean } {
  switch (linux?.seccompProfile?.profileType) {
    case SecurityProfile_ProfileType.RUNTIME_DEFAULT:
      return { what: 'the default seccomp profile', isForbidden: rules.rejectRuntimeDefaultSeccomp }
    case SecurityProfile_ProfileType.LOCALHOST:
      return { what: 'a seccomp profile of the node', isForbidden: rules.rejectCustomSeccomp }
    default:
      return { what: 'the seccomp profile of a container that has none', isForbidden: rules.rejectUnconfinedSeccomp }
  }
}

function requirePlugins(rules: ValidatorRules, { pod, container, plugins }: Judged): void {
  if (toleratesMissing(rules, pod, container.name)) return
  const required = [...rules.requiredPlugins, ...namedByPod(pod, container.name)]
  const missing = required.filter((name) => !plugins.has(name))
  if (missing.length > 0) reject(`required plugins are not there: ${missing.join(', ')}`)
}

function toleratesMissing(
  { tolerateMissingPluginsAnnotation: key }: ValidatorRules,
  pod: PodSandbox | undefined,
  name: string,
): boolean {
  const value = key === undefined ? undefined : annotationFor(pod, key, name)
  if (value === undefined) return false
  if (/^(1|t|true)$/i.test(value)) return true
  if (/^(0|f|false)$/i.test(value)) return false
  return reject(`annotation ${key} is ${JSON.stringify(value)}, neither true nor false`)
}

function namedByPod(pod: PodSandbox | undefined, name: string): string[] {
  const value = annotationFor(pod, REQUIRED_PLUGINS, name)
  if (value === undefined) return []
  try {
    return z.array(z.string()).parse(parse(value, { maxAliasCount: 0 }))
  } catch (error) {
    return reject(`annotation ${REQUIRED_PLUGINS} is no list of names: ${messageOf(error)}`)
  }
}

/** Of this container, then of the pod. */
const annotationFor = (pod: PodSandbox | undefined, key: string, container: string): string | undefined =>
  [`${key}/container.${container}`, `${key}/pod`, key].flatMap(
    (name) => (pod && Object.hasOwn(pod.annotations, name) && pod.annotations[name]) || [],
  )[0]
