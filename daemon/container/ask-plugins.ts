/** What plugins make of the spec of a container that is being created, and what of it belongs into the container's records. */
import { isAbsolute, posix } from 'node:path'
import type { LinuxContainerResources } from '#proto/generated/api.ts'
import type { AdjustContext } from '../nri/apply-adjustment.ts'
import { applyCdiEdits } from '../oci/cdi/apply-edits.ts'
import { findCdiDevices } from '../oci/cdi/find-devices.ts'
import { blockioClass } from '../oci/classes/blockio-class.ts'
import { rdtClass } from '../oci/classes/rdt-class.ts'
import { hostDevice } from '../oci/resolve-devices.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import type { SpecFeatures } from '../oci/spec/host.ts'
import { impossible, quoted } from '../oci/spec/refuse.ts'
import type { OciSpec } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'
import type { BuiltSpec } from './build-spec.ts'
import type { Container } from './container.ts'

export type AskNeeds = Pick<Parts, 'config' | 'containers' | 'nri' | 'specHost'>

export interface AskedSpec extends BuiltSpec {
  /** Another one when plugins moved it to another cgroup. */
  readonly container: Container
  /** The limits in force, where plugins changed them. */
  readonly resources: LinuxContainerResources | undefined
}

interface AskInput {
  readonly container: Container
  readonly handler: Pick<RuntimeHandler, 'features'>
  readonly mayMove: boolean
}

/**
 * @param mayMove whether nobody depends on the container's cgroup yet
 * @throws RuntimeError failed-precondition, invalid-argument when plugins refuse it, or want what cannot be
 */
export async function askPlugins(
  needs: AskNeeds,
  { container, handler, mayMove }: AskInput,
  built: BuiltSpec,
): Promise<AskedSpec> {
  const warnings: string[] = []
  const context = adjustContext(needs, container, (why) => warnings.push(why))
  const adjusted = await needs.nri.containers.create(container, built.spec, context)
  return {
    ...built,
    spec: adjusted.spec,
    resources: adjusted.resources,
    warnings: [...built.warnings, ...warnings, ...adjusted.warnings, ...notFollowed(adjusted.spec, handler.features)],
    container: await moved(needs, container, adjusted.spec.linux.cgroupsPath, mayMove),
  }
}

/** The OCI runtime reads over what it does not know. */
function notFollowed({ process, linux }: OciSpec, { scheduling, netDevices }: SpecFeatures): string[] {
  const asked = [
    { what: 'I/O priority', isThere: process.ioPriority, isKnown: scheduling },
    { what: 'scheduler', isThere: process.scheduler, isKnown: scheduling },
    { what: 'network devices', isThere: linux.netDevices, isKnown: netDevices },
    { what: 'memory policy', isThere: linux.memoryPolicy, isKnown: netDevices },
  ]
  const unknown = asked.filter(({ isThere, isKnown }) => isThere && !isKnown)
  return unknown.map(({ what }) => `A plugin sets the ${what}, which this OCI runtime does not say that it follows`)
}

function adjustContext(
  { config, specHost }: AskNeeds,
  container: Container,
  warn: (why: string) => void,
): AdjustContext {
  const { blockioConfig, cdiSpecDirs, rdtClasses } = config.container
  const named = (name: string) => (name === '' ? undefined : { name, annotation: 'of an NRI plugin' })
  return {
    host: specHost,
    requested: container.record.config.linux?.resources,
    withCdi: (spec, names) => applyCdiEdits(spec, findCdiDevices(cdiSpecDirs, names, warn), hostDevice),
    blockIo: (name) => blockioClass(blockioConfig, named(name), warn),
    rdt: (name) => rdtClass(rdtClasses, named(name)),
  }
}

async function moved(needs: AskNeeds, container: Container, cgroupsPath: string, mayMove: boolean): Promise<Container> {
  const { record, status } = container
  if (cgroupsPath === record.cgroupsPath) return container
  if (!mayMove) throw impossible('A plugin that has only just connected moves the container to another cgroup')
  const isSystemd = needs.config.cgroupDriver === 'systemd'
  const isGood = isSystemd
    ? /^[^/:]+\.slice:[^/:]+:[^/:]+$/.test(cgroupsPath)
    : isAbsolute(cgroupsPath) && posix.normalize(cgroupsPath) === cgroupsPath && cgroupsPath !== '/'
  if (!isGood)
    throw impossible(`NRI plugins: cgroups path ${quoted(cgroupsPath)} is not of the form of this node's driver`)
  return needs.containers.amend({ ...record, cgroupsPath }, status)
}
