/**
 * A Localhost seccomp profile: the JSON that Docker and Kubernetes users write, turned into the OCI form. Conditions
 * (capabilities, architectures) are decided here, against the container's final capability set. A word that we do not
 * know refuses the profile: skipping a rule could widen what it means.
 */
import * as z from 'zod'
import { impossible } from './refuse.ts'
import type { OciSeccomp, OciSyscallRule } from './types.ts'

const action = z.enum([
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_TRAP',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_LOG',
])

const operator = z.enum([
  'SCMP_CMP_NE',
  'SCMP_CMP_LT',
  'SCMP_CMP_LE',
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_MASKED_EQ',
])

const uint32 = z.int().min(0).max(0xffffffff)
/** Values of 64 bits that JSON cannot carry exactly would be a rule that nobody wrote. */
const exact = z.int().min(0)

const argument = z.strictObject({
  index: z.int().min(0).max(5),
  value: exact,
  valueTwo: exact.optional(),
  op: operator,
})

const kernelVersion = z.string().regex(/^\d{1,3}\.\d{1,3}$/)

const condition = z
  .strictObject({
    caps: z.array(z.string()).nullish(),
    arches: z.array(z.string()).nullish(),
    minKernel: kernelVersion.optional(),
  })
  .nullish()

const rule = z.strictObject({
  name: z.string().min(1).optional(),
  names: z.array(z.string().min(1)).max(2000).nullish(),
  action,
  errnoRet: uint32.nullish(),
  args: z.array(argument).max(100).nullish(),
  includes: condition,
  excludes: condition,
  comment: z.string().optional(),
})

const profile = z.strictObject({
  defaultAction: action,
  defaultErrnoRet: uint32.nullish(),
  architectures: z.array(z.string().regex(/^SCMP_ARCH_[A-Z0-9]+$/)).nullish(),
  archMap: z
    .array(z.strictObject({ architecture: z.string(), subArchitectures: z.array(z.string()).nullish() }))
    .nullish(),
  flags: z
    .array(z.enum(['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW']))
    .nullish(),
  syscalls: z.array(rule).max(5000).nullish(),
  comment: z.string().optional(),
})

type Profile = z.infer<typeof profile>
type Condition = z.infer<typeof condition>

export interface ProfileFacts {
  /** The host's architectures as libseccomp names them, its own first. */
  readonly architectures: readonly string[]
  /** As Docker's profiles name it: "amd64", "arm64". */
  readonly dockerArch: string
  readonly capabilities: readonly string[]
}

/** @throws RuntimeError failed-precondition naming `where` and what is wrong with the profile */
export const parseSeccompProfile = (text: string, where: string, facts: ProfileFacts): OciSeccomp => {
  const parsed = parse(text, where)
  const architectures = architecturesOf(parsed, facts)
  return {
    defaultAction: parsed.defaultAction,
    ...(parsed.defaultErrnoRet != null && { defaultErrnoRet: parsed.defaultErrnoRet }),
    architectures,
    ...(parsed.flags?.length && { flags: parsed.flags }),
    syscalls: rulesOf(parsed, where, facts),
  }
}

const parse = (text: string, where: string): Profile => {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw impossible(`Seccomp profile ${where} is not JSON`, cause)
  }
  const result = profile.safeParse(json)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw impossible(`Seccomp profile ${where}: ${issue?.path.join('.') || 'profile'}: ${issue?.message}`, result.error)
}

const architecturesOf = (parsed: Profile, facts: ProfileFacts): readonly string[] => {
  if (parsed.archMap?.length) {
    const own = parsed.archMap.find((entry) => entry.architecture === facts.architectures[0])
    return own ? [own.architecture, ...(own.subArchitectures ?? [])] : facts.architectures
  }
  return parsed.architectures ?? []
}

const rulesOf = (parsed: Profile, where: string, facts: ProfileFacts): OciSyscallRule[] => {
  const rules: OciSyscallRule[] = []
  for (const [index, { name, names, action, errnoRet, args, includes, excludes }] of (
    parsed.syscalls ?? []
  ).entries()) {
    const all = [...(name ? [name] : []), ...(names ?? [])]
    if (all.length === 0) throw impossible(`Seccomp profile ${where}: syscalls.${index} names no system call`)
    if (!isIncluded(includes, facts) || isExcluded(excludes, facts)) continue
    rules.push({
      names: all,
      action,
      ...(errnoRet != null && { errnoRet }),
      ...(args?.length && {
        args: args.map(({ valueTwo, ...rest }) => ({ ...rest, ...(valueTwo !== undefined && { valueTwo }) })),
      }),
    })
  }
  return rules
}

// Every kernel that Kubernetes supports is newer than any minKernel that profiles use, so it only has to be well formed.
const isIncluded = (condition: Condition, facts: ProfileFacts): boolean =>
  (condition?.caps ?? []).every((name) => facts.capabilities.includes(name)) &&
  (!condition?.arches?.length || condition.arches.includes(facts.dockerArch))

const isExcluded = (condition: Condition, facts: ProfileFacts): boolean =>
  (condition?.caps ?? []).some((name) => facts.capabilities.includes(name)) ||
  (condition?.arches ?? []).includes(facts.dockerArch) ||
  condition?.minKernel !== undefined
