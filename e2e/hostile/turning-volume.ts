/**
 * The race of row B7: a container keeps turning a directory of its volume into links to the node, while others are made
 * that mount something below that directory.
 */

import { mkdirSync, rmSync } from 'node:fs'
import { status } from '@grpc/grpc-js'
import type { Canary } from '../canary.ts'
import { CriError } from '../cri-client.ts'
import type { World } from '../harness.ts'
import { containerConfig, createContainer, podConfig, removePod } from '../pods.ts'

export interface TurningVolume {
  /** Makes and removes a container. @returns 'OK', or the code with which it was refused */
  tryMount(): Promise<string>
  end(): Promise<void>
}

export async function startTurning(world: World, { dir }: Canary): Promise<TurningVolume> {
  const { runtime } = world.cri
  const shared = world.site.path('shared')
  mkdirSync(shared)
  const mounts = [{ containerPath: '/v', hostPath: shared }]
  const inner = [...mounts, { containerPath: '/v/d/made', hostPath: world.site.logDir }]
  const turn = [
    ...['mkdir /v/d 2>/dev/null', 'rm -rf /v/d'],
    ...[dir, `/../../..${dir}`].flatMap((target) => [`ln -s ${target} /v/d`, 'rm /v/d']),
  ].join('; ')
  const sandbox = await podConfig(world.site, 'turning')
  const { podSandboxId } = await runtime.runPodSandbox({ config: sandbox })
  const make = (name: string, script: string, given: typeof mounts): Promise<string> => {
    const config = containerConfig(name, world.image, ['sh', '-c', script], { mounts: given })
    return createContainer(world.cri, podSandboxId, sandbox, config)
  }
  await runtime.startContainer({ containerId: await make('turner', `while :; do ${turn}; done`, mounts) })
  return {
    async tryMount() {
      try {
        await runtime.removeContainer({ containerId: await make('victim', 'true', inner) })
        return 'OK'
      } catch (error) {
        if (!(error instanceof CriError)) throw error
        return status[error.code] ?? `${error.code}`
      }
    },
    async end() {
      await removePod(world.cri, podSandboxId)
      rmSync(shared, { recursive: true })
    },
  }
}
