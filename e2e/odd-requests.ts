/**
 * Requests as nobody would write them: a full, valid RunPodSandbox or CreateContainer in which some values are replaced
 * by others of their type, lists are emptied or repeated, keys of maps become texts of ours.
 */

import * as fc from 'fast-check'
import {
  ContainerConfig,
  type DeepPartial,
  NamespaceMode,
  PodSandboxConfig,
  SecurityProfile_ProfileType,
} from '#proto/generated/api.ts'
import { imageSpec } from './image-spec.ts'

/** Paths lead to nothing that could be made: a source of a mount that is missing is made, as Kubernetes expects. */
export const TEXTS = [
  '',
  '/',
  '.',
  '..',
  '../..',
  '/../../etc',
  '/proc',
  '/proc/self/fd/7',
  '//',
  '\0',
  'a\nb',
  'x'.repeat(5000),
  '-1',
  '0',
  '4294967296',
  '__proto__',
  'unconfined',
  'localhost/',
  'runtime/default',
  '%s%n',
  '$(id)',
  'ALL',
  'CAP_X',
  'a,b:c\\d',
  '\u2028',
  '\ud800',
  'v.com/c=d',
  '0-4294967295',
  '/dev/null',
  'rwm',
  's0:c1,c2',
  'spc_t',
]
const BIGS = [0n, 1n, -1n, 2n ** 31n, 2n ** 32n, 2n ** 63n - 1n, -(2n ** 63n), 1000n]
const NUMBERS = [0, 1, 2, 3, 4, -1, 99, 65_536, 2 ** 31 - 1, -(2 ** 31)]

/** One value of a message, and what takes its place: both are taken modulo what there is. */
interface Change {
  readonly place: number
  readonly pick: number
}

export interface OddRequest {
  /** Zero: a sandbox; anything else: a container. */
  readonly kind: number
  readonly changes: readonly Change[]
}

const changes = (minLength: number, maxLength: number) =>
  fc.array(fc.record({ place: fc.nat(), pick: fc.nat() }), { minLength, maxLength })

export const oddRequests: fc.Arbitrary<OddRequest> = fc.record({
  kind: fc.nat(9),
  // Many changes are refused for the first; few get past the checks.
  changes: fc.oneof(changes(1, 2), { weight: 3, arbitrary: changes(3, 8) }),
})

type Place = { readonly holder: Record<string, unknown>; readonly key: string }

/** Every value in a message, however deep. */
const placesOf = (value: unknown): Place[] => {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return []
  // Messages are plain records of their fields.
  const holder = value as Record<string, unknown>
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...placesOf(holder[key])])
}

const mutate = ({ holder, key }: Place, pick: number): void => {
  const value = holder[key]
  const text = TEXTS[pick % TEXTS.length] ?? ''
  if (typeof value === 'string') holder[key] = text
  else if (typeof value === 'bigint') holder[key] = BIGS[pick % BIGS.length]
  else if (typeof value === 'number') holder[key] = NUMBERS[pick % NUMBERS.length]
  else if (typeof value === 'boolean') holder[key] = !value
  else if (value instanceof Uint8Array) holder[key] = Buffer.from(text)
  else if (Array.isArray(value)) holder[key] = pick % 3 === 0 ? [] : Array.from({ length: pick % 50 }, () => value[0])
  else if (MAPS.has(key)) holder[key] = { [text]: TEXTS[(pick >> 5) % TEXTS.length] }
  else if (pick % 4 === 0) holder[key] = undefined
}

/** Fields whose keys are texts of the sender. */
const MAPS = new Set(['labels', 'annotations', 'sysctls', 'unified'])

export const changed = <T extends object>(message: T, changes: readonly Change[]): T => {
  for (const { place, pick } of changes) {
    const places = placesOf(message)
    const chosen = places[place % places.length]
    if (chosen) mutate(chosen, pick)
  }
  return message
}

export const usernsOptions = (mapped: boolean) => {
  const id = { hostId: 100_000, containerId: 0, length: 65_536 }
  return mapped
    ? { mode: NamespaceMode.POD, uids: [id], gids: [{ ...id }] }
    : { mode: NamespaceMode.NODE, uids: [], gids: [] }
}

const resources = () => ({
  cpuPeriod: 100_000n,
  cpuQuota: 50_000n,
  cpuShares: 102n,
  memoryLimitInBytes: 64n << 20n,
  memorySwapLimitInBytes: 64n << 20n,
  oomScoreAdj: 999n,
  cpusetCpus: '0',
  cpusetMems: '0',
  hugepageLimits: [{ pageSize: '2MB', limit: 0n }],
  unified: {},
})

const confinement = () => {
  const profile = { profileType: SecurityProfile_ProfileType.Unconfined, localhostRef: '' }
  return {
    seccomp: profile,
    apparmor: { ...profile },
    selinuxOptions: { user: '', role: '', type: '', level: '' },
    runAsUser: { value: 1000n },
    runAsGroup: { value: 1000n },
    supplementalGroups: [5n],
  }
}

/** Something in every field, so that there is something to replace. @param mapped in a pod with mapped ids */
export const fullContainer = (plain: ContainerConfig, logDir: string, mapped: boolean): ContainerConfig => {
  const image = plain.image?.image ?? ''
  const full: DeepPartial<ContainerConfig> = {
    workingDir: '/tmp',
    args: ['true'],
    envs: [{ key: 'A', value: Buffer.from('b') }],
    mounts: [
      { containerPath: '/m', hostPath: logDir, readonly: true },
      { containerPath: '/i', image: imageSpec(image), imageSubPath: 'etc', readonly: true },
    ],
    devices: [{ hostPath: '/dev/null', containerPath: '/dev/mine', permissions: 'r' }],
    CDIDevices: [],
    linux: {
      resources: resources(),
      securityContext: {
        ...confinement(),
        capabilities: { addCapabilities: ['CHOWN'], dropCapabilities: ['KILL'], addAmbientCapabilities: ['CHOWN'] },
        namespaceOptions: { network: 0, pid: 1, ipc: 0, targetId: '', usernsOptions: usernsOptions(mapped) },
        maskedPaths: ['/proc/kcore'],
        readonlyPaths: ['/proc/bus'],
        noNewPrivs: true,
      },
    },
  }
  return ContainerConfig.fromPartial({ ...plain, ...full })
}

/** Most are on the node's network: the plugins of a pod network take longer than everything that is judged here. */
export const fullSandbox = (plain: PodSandboxConfig, network: NamespaceMode): PodSandboxConfig =>
  PodSandboxConfig.fromPartial({
    ...plain,
    portMappings: network === NamespaceMode.POD ? [{ containerPort: 80, hostPort: 0 }] : [],
    linux: {
      ...plain.linux,
      sysctls: network === NamespaceMode.POD ? { 'net.ipv4.ip_forward': '0' } : { 'kernel.shm_rmid_forced': '1' },
      overhead: resources(),
      resources: resources(),
      securityContext: {
        ...confinement(),
        namespaceOptions: {
          network,
          pid: NamespaceMode.CONTAINER,
          ipc: NamespaceMode.POD,
          usernsOptions: usernsOptions(network === NamespaceMode.POD),
        },
      },
    },
  })
