/** What a container sees: runs a shell script in one, in a pod of its own, and hands back what it wrote. */
import type { ContainerConfig, DeepPartial } from '#proto/generated/api.ts'
import type { World } from './harness.ts'
import { containerConfig, createContainer, podConfig, readLog, removePod, untilExited } from './pods.ts'

export interface Seen {
  lines: string[]
  id: string
}

export interface Asked {
  name: string
  script: string
  config?: DeepPartial<ContainerConfig>
  /** Instead of the script run by a shell. */
  command?: string[]
  image?: string
  handler?: string
  pod?: Parameters<typeof podConfig>[2]
  /** Runs before the container is started. */
  meanwhile?: (containerId: string) => Promise<void>
  /** Runs once it is started. */
  running?: (containerId: string) => Promise<void>
}

/** Runs a script in a container and returns what it said. */
export async function see(
  world: World,
  { name, script, command, config = {}, image, handler = '', pod = {}, meanwhile, running }: Asked,
): Promise<Seen> {
  const sandbox = await podConfig(world.site, name, pod)
  const { podSandboxId } = await world.cri.runtime.runPodSandbox({ config: sandbox, runtimeHandler: handler })
  try {
    const container = containerConfig('main', image ?? world.image, command ?? ['sh', '-c', script], config)
    const id = await createContainer(world.cri, podSandboxId, sandbox, container)
    await meanwhile?.(id)
    await world.cri.runtime.startContainer({ containerId: id })
    await running?.(id)
    await untilExited(world.cri, id)
    const lines = (await readLog(`${sandbox.logDirectory}/main/0.log`)).map(({ content }) => content)
    return { lines, id }
  } finally {
    await removePod(world.cri, podSandboxId)
  }
}
