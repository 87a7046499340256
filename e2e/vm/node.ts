/** The node of the tests: Cricket installed and run as a service, with the systemd cgroup driver, a pod network and a registry. */

import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, afterEach, before } from 'node:test'
import { stringify } from 'yaml'
import {
  type ContainerConfig,
  type DeepPartial,
  type LinuxPodSandboxConfig,
  PodSandboxConfig,
} from '#proto/generated/api.ts'
import type { CriClient } from '../cri-client.ts'
import { imageSpec } from '../image-spec.ts'
import { findLeftovers } from '../leftovers.ts'
import { busyboxImage, pushImage } from '../oci-image.ts'
import { containerConfig, createContainer, podConfig, type RunningPod, removeAllPods } from '../pods.ts'
import { type Registry, startRegistry } from '../registry.ts'
import { createSite, removeSite, type Site } from '../site.ts'
import { systemctl, tool, untilServes } from './systemd.ts'

const UNCONFINED = 'system_u:system_r:unconfined_t:s0'
const DROP_INS = '/etc/systemd/system/cricket.service.d'

export interface Node {
  readonly site: Site
  readonly image: string
  /** Of the service as it runs now. */
  cri: CriClient
}

/** A pod, its only container, and the slice that a kubelet would have made for it. */
export interface NodePod extends RunningPod {
  readonly slice: string
}

/**
 * Registers the hooks of the surrounding suite.
 * @param sections of the configuration file, in the place of those that it has otherwise
 */
export function useNode(sections: Record<string, unknown> = {}): Node {
  let site: Site | undefined
  let registry: Registry | undefined
  let cri: CriClient | undefined
  const there = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error('the node is there only while tests run')
    return part
  }
  before(async () => {
    site = await createSite()
    registry = await startRegistry(site.dir)
    await pushImage(registry.url, 'busybox', '1', await busyboxImage())
    await mkdir('/etc/cricket', { recursive: true })
    await writeFile('/etc/cricket/config.yaml', configuration(site, registry, sections))
    await mkdir(DROP_INS, { recursive: true })
    // An administrator's idea of security that must not reach the containers.
    await writeFile(join(DROP_INS, 'umask.conf'), '[Service]\nUMask=0077\n')
    // On a node with SELinux. Its policy has no domain for a runtime of this name.
    await writeFile(join(DROP_INS, 'selinux.conf'), `[Service]\nSELinuxContext=-${UNCONFINED}\n`)
    await systemctl('daemon-reload')
    await systemctl('start', 'cricket')
    cri = await untilServes()
    await cri.images.pullImage({ image: imageSpec(`${registry.host}/busybox:1`) })
  })
  afterEach(async (test) => {
    if (!('passed' in test) || test.passed) return
    const { stdout } = await tool('journalctl', ['-u', 'cricket', '-n', '40', '--no-pager', '-o', 'cat'])
    test.diagnostic(`the service's log ends:\n${stdout}`)
    await removeAllPods(there(cri)).catch(() => {})
  })
  after(async () => {
    await systemctl('stop', 'cricket')
    cri?.close()
    await registry?.stop()
    if (site) await removeSite(site)
  })
  return {
    get site() {
      return there(site)
    },
    get image() {
      return `${there(registry).host}/busybox:1`
    },
    get cri() {
      return there(cri)
    },
    set cri(next: CriClient) {
      cri?.close()
      cri = next
    },
  }
}

/** Everything that is not said here has its default, the paths among it. */
const configuration = (
  { network, cgroupDriver }: Site,
  registry: Registry,
  sections: Record<string, unknown>,
): string =>
  stringify({
    cgroupDriver,
    runtimes: { handlers: { crun: {} } },
    network: { configDir: network.configDir, binDirs: network.binDirs },
    image: { insecureRegistries: [registry.host] },
    ...sections,
  })

interface PodOptions {
  /** The runtime handler; the default one when not given. */
  handler?: string
  container?: DeepPartial<ContainerConfig>
  pod?: DeepPartial<LinuxPodSandboxConfig>
  annotations?: Record<string, string>
  /** Whose limits are its requests: its slice lies in that of all pods. */
  isGuaranteed?: boolean
}

/** Starts a pod of one container in a slice with the name that a kubelet would give it. */
export async function startNodePod(
  node: Node,
  name: string,
  command: string[],
  { handler = '', container = {}, pod = {}, annotations = {}, isGuaranteed = false }: PodOptions = {},
): Promise<NodePod> {
  const { linux, ...sandbox } = await podConfig(node.site, name)
  const parent = isGuaranteed ? 'kubepods' : 'kubepods-besteffort'
  const slice = `${parent}-pod${sandbox.metadata?.uid.replaceAll('-', '_')}.slice`
  const config = PodSandboxConfig.fromPartial({
    ...sandbox,
    annotations,
    linux: { ...linux, ...pod, cgroupParent: slice },
  })
  const { podSandboxId } = await node.cri.runtime.runPodSandbox({ config, runtimeHandler: handler })
  const main = containerConfig('main', node.image, command, container)
  const containerId = await createContainer(node.cri, podSandboxId, config, main)
  await node.cri.runtime.startContainer({ containerId })
  const logPath = join(config.logDirectory, main.logPath)
  return { sandbox: config, sandboxId: podSandboxId, containerId, logPath, slice }
}

/** Runs a command in the container. Returns what it wrote to stdout. Throws when it fails. */
export async function run(node: Node, { containerId }: RunningPod, ...cmd: string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await node.cri.runtime.execSync({ containerId, cmd, timeout: 60n })
  if (exitCode !== 0) throw new Error(`'${cmd.join(' ')}' exits with ${exitCode}: ${stderr}`)
  return stdout.toString().trim()
}

/** The first process of a container, as the machine counts. */
export async function initPid(node: Node, { containerId }: RunningPod): Promise<number> {
  const { info } = await node.cri.runtime.containerStatus({ containerId, verbose: true })
  const { pid }: { pid: number } = JSON.parse(info.info ?? '{}')
  return pid
}

/** What is left of the site's pods, besides the registry and what the service itself holds. */
export async function leftoversOf(node: Node): Promise<string[]> {
  const found = await findLeftovers(node.site)
  return found.filter(({ kind }) => kind !== 'process').map(({ kind, what }) => `${kind} ${what}`)
}
