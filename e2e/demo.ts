/**
 * `npm start`: cricket on private directories and a network of its own, one pod through the CRI socket, each step with
 * its time. Then it serves until Ctrl-C, or with `--once` ends there. Either way it leaves nothing behind.
 */

import { readFile, writeFile } from 'node:fs/promises'
import { styleText } from 'node:util'
import { PodSandboxState } from '#proto/generated/api.ts'
import type { CriClient } from './cri-client.ts'
import { cricketSocket, startCricket } from './cricket.ts'
import { imageSpec } from './image-spec.ts'
import { describeLeftovers } from './leftovers.ts'
import { busyboxImage, writeLayout } from './oci-image.ts'
import {
  containerConfig,
  containerStatus,
  podConfig,
  type RunningPod,
  readLog,
  removeAllPods,
  startPod,
  until,
} from './pods.ts'
import type { Runtime } from './runtime.ts'
import { createSite, findBusybox, removeSite, type Site } from './site.ts'

const once = process.argv.includes('--once')
const IMAGE = 'cricket.local/demo:1'
const IP_FORWARD = '/proc/sys/net/ipv4/ip_forward'

const SCRIPT = `
trap 'echo "asked to stop after $n ticks"; exit 0' TERM
echo "hello from pod $(hostname), address $(hostname -i)"
echo "this line went to stderr" >&2
cat /greeting
n=0; while :; do n=$((n+1)); [ $n -gt 3 ] || echo "tick $n"; sleep 0.2; done`

const dim = (text: string) => styleText('dim', text)
const bold = (text: string) => styleText('bold', text)
const short = (id: string) => id.replace('sha256:', '').slice(0, 12)

/** Runs a step and prints a line for it: name, what came out, time. */
async function step<T>(name: string, work: () => Promise<T>, result: (value: T) => string = () => ''): Promise<T> {
  const begin = performance.now()
  const line = (mark: string, text: string) => {
    const ms = `${(performance.now() - begin).toFixed(0)} ms`
    console.log(`  ${mark} ${name.padEnd(22)} ${text.padEnd(44)} ${dim(ms.padStart(8))}`)
  }
  try {
    const value = await work()
    line(styleText('green', '✔'), result(value))
    return value
  } catch (error) {
    line(styleText('red', '✖'), 'failed')
    throw error
  }
}

const quote = (text: string) => console.log(dim(text.trimEnd().replaceAll(/^/gm, '      ')))

/** Resolves at the first Ctrl-C or SIGTERM. Both npm and the terminal send one: later ones are ignored. */
const interrupted = new Promise<void>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => resolve())
})

class Interrupted extends Error {}

/** The work's result, or an Interrupted as soon as somebody wants to end. */
const unlessInterrupted = <T>(work: Promise<T>): Promise<T> =>
  Promise.race([work, interrupted.then(() => Promise.reject(new Interrupted()))])

async function demonstrate(site: Site, setRuntime: (runtime: Runtime) => void): Promise<void> {
  const layout = site.path('image')
  await step(
    'image from busybox',
    async () => writeLayout(layout, { [IMAGE]: await busyboxImage() }),
    () => `OCI layout of ${findBusybox()}`,
  )
  await step(
    'daemon',
    async () => {
      const runtime = await startCricket(site, { preload: [layout] })
      setRuntime(runtime)
      const { runtimeName, runtimeVersion } = await runtime.cri.runtime.version({})
      return { runtime, version: `${runtimeName} ${runtimeVersion}` }
    },
    ({ version, runtime }) => `${version}, process ${runtime.pid}`,
  ).then(({ runtime }) => walk(site, runtime.cri))
}

/** The way of a pod, as the kubelet goes it. */
async function walk(site: Site, cri: CriClient): Promise<void> {
  await step(
    'Status',
    () => untilReady(cri),
    (ready) => ready,
  )
  await step(
    'ImageStatus',
    async () => (await cri.images.imageStatus({ image: imageSpec(IMAGE) })).image,
    (image) => (image ? `${IMAGE}, id ${short(image.id)}` : fail(`image '${IMAGE}' was not loaded`)),
  )
  const pod = await startTimed(site, cri)
  await step(
    'log',
    () => untilTicked(pod),
    (lines) => `${lines} lines in CRI format`,
  )
  quote(await readFile(pod.logPath, 'utf8'))
  const exec = await step(
    'ExecSync',
    () =>
      cri.runtime.execSync({
        containerId: pod.containerId,
        cmd: ['sh', '-c', 'id; ps -o pid,user,comm'],
        timeout: 10n,
      }),
    ({ exitCode }) => `'id; ps' ended with ${exitCode}`,
  )
  quote(exec.stdout.toString())
  await step(
    'ListContainers',
    () => cri.runtime.listContainers({}),
    ({ containers }) => `${containers.length} container`,
  )
  if (exec.exitCode !== 0) fail(`the command in the container ended with ${exec.exitCode}`)
}

async function startTimed(site: Site, cri: CriClient): Promise<RunningPod> {
  const sandbox = await podConfig(site, 'demo')
  const container = containerConfig('main', IMAGE, ['sh', '-c', SCRIPT])
  const calls = cri.runtime
  // The same calls as startPod makes, with a line for each.
  const timed: CriClient = {
    ...cri,
    runtime: {
      ...calls,
      runPodSandbox: (request) =>
        step(
          'RunPodSandbox',
          () => calls.runPodSandbox(request),
          ({ podSandboxId }) => `sandbox ${short(podSandboxId)}`,
        ),
      createContainer: (request) =>
        step(
          'CreateContainer',
          () => calls.createContainer(request),
          (answer) => `container ${short(answer.containerId)}`,
        ),
      startContainer: (request) => step('StartContainer', () => calls.startContainer(request)),
    },
  }
  const pod = await startPod(timed, sandbox, container)
  await step(
    'PodSandboxStatus',
    async () => (await calls.podSandboxStatus({ podSandboxId: pod.sandboxId })).status,
    (status) =>
      status?.state === PodSandboxState.SANDBOX_READY
        ? `ready, address ${status.network?.ip}`
        : fail('the sandbox is not ready'),
  )
  return pod
}

async function untilReady(cri: CriClient): Promise<string> {
  return until('RuntimeReady and NetworkReady', 10_000, async () => {
    const { status } = await cri.runtime.status({})
    const conditions = status?.conditions ?? []
    return conditions.every((condition) => condition.status) ? conditions.map(({ type }) => type).join(', ') : undefined
  })
}

const untilTicked = (pod: RunningPod): Promise<number> =>
  until('the container has logged its ticks', 10_000, async () => {
    const lines = await readLog(pod.logPath)
    return lines.some(({ content }) => content === 'tick 3') ? lines.length : undefined
  })

function fail(message: string): never {
  throw new Error(message)
}

/** Ends the pod, the daemon and the network, and tells what is left: nothing. */
async function end(site: Site, runtime: Runtime | undefined, ipForward: string): Promise<void> {
  if (runtime?.isRunning) {
    const { cri } = runtime
    await step(
      'StopContainer',
      () => stopContainers(cri),
      (codes) => `exit code ${codes.join(', ')}`,
    )
    await step('RemovePodSandbox', () => removeAllPods(cri))
    await step(
      'daemon',
      () => runtime.stop(),
      (ending) => `ended, ${JSON.stringify(ending)}`,
    )
  }
  await step(
    'nothing left behind',
    async () => {
      const leftovers = await removeSite(site)
      await writeFile(IP_FORWARD, ipForward)
      if (leftovers.length > 0) throw new Error(`left behind:\n${describeLeftovers(leftovers)}`)
    },
    () => 'mounts, namespaces, cgroups, links, files',
  )
}

async function stopContainers(cri: CriClient): Promise<number[]> {
  const { containers } = await cri.runtime.listContainers({})
  return Promise.all(
    containers.map(async ({ id }) => {
      await cri.runtime.stopContainer({ containerId: id, timeout: 5n })
      return (await containerStatus(cri, id)).exitCode
    }),
  )
}

async function main(): Promise<void> {
  const begin = performance.now()
  const ipForward = await readFile(IP_FORWARD, 'utf8')
  const site = await createSite()
  let runtime: Runtime | undefined
  let good = true
  console.log(`\n${bold('cricket')}, a container runtime for Kubernetes ${dim(`in ${site.dir}`)}\n`)
  const report = async (work: Promise<void>) => {
    await work.catch(async (error: unknown) => {
      if (error instanceof Interrupted) return
      good = false
      console.error(`\n${error instanceof Error ? error.message : error}\n`)
      if (runtime) quote(await runtime.logTail(3000))
    })
  }
  await report(
    unlessInterrupted(
      demonstrate(site, (started) => {
        runtime = started
      }),
    ),
  )
  if (good && !once) {
    console.log(`\n  Serving until Ctrl-C. To look around from another terminal:\n`)
    console.log(`    ${bold(`crictl --runtime-endpoint unix://${cricketSocket(site)} ps`)}\n`)
    await interrupted
    console.log()
  }
  await report(end(site, runtime, ipForward))
  console.log(
    `\n  ${good ? 'all of it worked' : 'something failed'} ${dim(`${((performance.now() - begin) / 1000).toFixed(1)} s`)}`,
  )
  process.exit(good ? 0 : 1)
}

await main()
