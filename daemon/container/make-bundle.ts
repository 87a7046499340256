/** The bundle of a container that is being made: its root file system, its image volumes and its `config.json`. */
import { mkdir } from 'node:fs/promises'
import type { RunnableImage } from '#image/image-store.ts'
import type { Rollback } from '#storage/rollback.ts'
import { writeNamedFile } from '#storage/write-file.ts'
import { type Checkpoint, restoredSpec, restoreRootfs } from '../checkpoint/prepare-restore.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { specText } from '../oci/spec/types.ts'
import type { Parts } from '../parts.ts'
import { podIdMap, type Sandbox } from '../sandbox/sandbox.ts'
import { letPass } from '../sandbox/user-namespaces.ts'
import { containerFileLabel, contextOption } from '../selinux/file-labels.ts'
import { type AskedSpec, type AskNeeds, askPlugins } from './ask-plugins.ts'
import { unbindSources } from './bound-mounts.ts'
import { buildSpec, type SpecNeeds } from './build-spec.ts'
import type { Container } from './container.ts'
import { mountImageVolumes } from './image-volumes.ts'

type BundleNeeds = SpecNeeds & AskNeeds & Pick<Parts, 'storage'>

export interface BundleInput {
  readonly sandbox: Sandbox
  readonly container: Container
  readonly image: RunnableImage
  readonly handler: RuntimeHandler
  /** What the container is made from, instead of its command. */
  readonly checkpoint: Checkpoint | undefined
}

/** @param input.mayMove whether plugins may move the container to another cgroup */
export async function makeBundle(
  needs: BundleNeeds,
  input: BundleInput & { readonly mayMove: boolean },
  rollback: Rollback,
): Promise<AskedSpec> {
  const { id } = input.container.record
  const paths = needs.paths.container(id)
  const idMap = podIdMap(input.sandbox.record.config)
  await letPass(paths.dir, idMap)
  await mkdir(paths.volumes, { mode: 0o711 })
  const label = containerFileLabel(needs.specHost, input.sandbox.record, input.container.record.config)
  const layers = input.image.diffIds
  const options = contextOption(label)
  const image = input.container.record.config.image?.image ?? input.image.id
  await needs.storage.rootfs.create({ id, layers, mountpoint: paths.rootfs, idMap, options, image })
  rollback.defer('rootfs', () => needs.storage.rootfs.remove(id))
  if (input.checkpoint) await restoreRootfs(needs, id, input.checkpoint)
  const volumes = await mountImageVolumes(needs, paths, input.container.record, rollback, { idMap, options })
  rollback.defer('seccomp listener', () => needs.seccompNotifier.forget(id))
  rollback.defer('mounts', () => unbindSources(needs, paths, input.container.record.config))
  const built = await buildSpec(needs, { ...input, volumes })
  const spec = input.checkpoint ? restoredSpec(needs.paths, input.checkpoint, built.spec) : built.spec
  rollback.defer('plugins', () => needs.nri.containers.undo(input.container))
  const asked = await askPlugins(needs, input, { ...built, spec })
  await writeNamedFile(paths.spec, specText(asked.spec), 0o600)
  for (const warning of asked.warnings) needs.log.warn(warning, { container: id })
  return asked
}
