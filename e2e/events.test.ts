/** GetContainerEvents (api.proto): what a kubelet with an evented PLEG lives by. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, it } from 'node:test'
import { Client, type ClientReadableStream, credentials, type ServiceError, status } from '@grpc/grpc-js'
import {
  ContainerEventResponse,
  ContainerEventType,
  ContainerState,
  PodSandboxState,
  RuntimeServiceService,
} from '../proto/generated/api.ts'
import { cricketSocket } from './cricket.ts'
import { useWorld } from './harness.ts'
import { containerConfig, createContainer, podConfig, removePod, until, untilExited } from './pods.ts'

const { path } = RuntimeServiceService.getContainerEvents
const CREATED = ContainerEventType.CONTAINER_CREATED_EVENT
const STARTED = ContainerEventType.CONTAINER_STARTED_EVENT
const STOPPED = ContainerEventType.CONTAINER_STOPPED_EVENT
const DELETED = ContainerEventType.CONTAINER_DELETED_EVENT
const DEADLINE_MS = 60_000

type Stream = ClientReadableStream<ContainerEventResponse>

interface Listener {
  readonly events: ContainerEventResponse[]
  readonly stream: Stream
  /** Resolves with the error that ended the stream. */
  readonly ended: Promise<ServiceError>
  close(): void
}

describe('events', () => {
  const world = useWorld()

  const open = (client: Client): Stream =>
    client.makeServerStreamRequest(
      path,
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => ContainerEventResponse.decode(bytes),
      Buffer.alloc(0),
      { deadline: Date.now() + DEADLINE_MS },
    )

  const connect = () =>
    new Client(`unix://${cricketSocket(world.site)}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.default_authority': 'localhost',
    })

  /** Subscribed when this resolves: what happens from then on is told. */
  const listen = async ({ reads = true } = {}): Promise<Listener> => {
    const client = connect()
    const stream = open(client)
    const ended = new Promise<ServiceError>((resolve) => stream.on('error', resolve))
    const subscribed = once(stream, 'metadata')
    const events: ContainerEventResponse[] = []
    // A client of this library that has never read buffers for ever; one that has stopped reading does not.
    if (reads) stream.on('data', (event: ContainerEventResponse) => void events.push(event))
    else stream.once('data', () => stream.pause())
    await Promise.race([subscribed, ended.then((error) => Promise.reject(error))])
    const close = () => {
      stream.cancel()
      client.close()
    }
    return { events, stream, ended, close }
  }

  it('tell the whole life of a pod, each with all there is to know of the pod', async () => {
    const { cri, site, image } = world
    const [listener, second] = await Promise.all([listen(), listen()])
    const pod = await podConfig(site, 'told')
    const { podSandboxId } = await cri.runtime.runPodSandbox({ config: pod })
    const one = await createContainer(cri, podSandboxId, pod, containerConfig('one', image, ['sleep', '1000']))
    await cri.runtime.startContainer({ containerId: one })
    const short = await createContainer(cri, podSandboxId, pod, containerConfig('short', image, ['sh', '-c', 'exit 3']))
    await cri.runtime.startContainer({ containerId: short })
    await untilExited(cri, short)
    const seen = (await cri.runtime.podSandboxStatus({ podSandboxId })) ?? {}
    await removePod(cri, podSandboxId)
    const { events } = await until('all is told', 30_000, async () =>
      listener.events.some((event) => event.containerId === podSandboxId && event.containerEventType === DELETED)
        ? listener
        : undefined,
    )
    const typesOf = (id: string) => events.filter((e) => e.containerId === id).map((e) => e.containerEventType)
    assert.deepEqual(typesOf(podSandboxId), [CREATED, STARTED, STOPPED, DELETED])
    assert.deepEqual(typesOf(one), [CREATED, STARTED, STOPPED, DELETED])
    // One that ends at once may have been over before anybody could be told that it runs.
    assert.deepEqual(
      [...new Set(typesOf(short))].filter((type) => type !== STARTED),
      [CREATED, STOPPED, DELETED],
    )
    for (const event of events) {
      assert.deepEqual(event.podSandboxStatus?.metadata, pod.metadata)
      assert.equal(event.podSandboxStatus?.id, podSandboxId)
      assertAgrees(event)
    }
    const times = events.map(({ createdAt }) => createdAt)
    assert.deepEqual(
      times,
      times.toSorted((a, b) => (a < b ? -1 : 1)),
    )
    assert.equal(new Set(times).size, times.length)
    // The status has the same contents and a time in the same order.
    assert.deepEqual(
      seen.containersStatuses.map(({ id }) => id),
      [one, short],
    )
    const before = events.filter(({ createdAt }) => createdAt < seen.timestamp)
    assert.ok(seen.timestamp > 0n && before.length < events.length)
    assert.deepEqual(before.at(-1)?.containersStatuses, seen.containersStatuses)
    await until(
      'the other subscriber has got the same',
      10_000,
      async () => second.events.length === events.length || undefined,
    )
    assert.deepEqual(second.events, events)
    listener.close()
    second.close()
  })

  it('end with an error for one that does not read, and go on for all others', async () => {
    const { cri, site, image } = world
    const [stuck, quick] = await Promise.all([listen({ reads: false }), listen()])
    // Each event carries it: some dozens of them are more than is kept for those who are behind.
    const annotations = { large: 'x'.repeat(200_000) }
    const pod = await podConfig(site, 'large', { annotations })
    const { podSandboxId } = await cri.runtime.runPodSandbox({ config: pod })
    const config = containerConfig('one', image, ['sleep', '1000'])
    const rounds = 24
    for (let n = 0; n < rounds; n++) {
      const containerId = await createContainer(cri, podSandboxId, pod, config)
      await cri.runtime.removeContainer({ containerId })
    }
    await until('the quick one has got all', 30_000, async () => quick.events.length >= 2 + 3 * rounds || undefined)
    // What was on its way before the overflow is still to be read.
    stuck.stream.resume()
    const { code, details } = await stuck.ended
    assert.equal(code, status.RESOURCE_EXHAUSTED, details)
    assert.equal(quick.events.filter(({ containerEventType }) => containerEventType === DELETED).length, rounds)
    await removePod(cri, podSandboxId)
    stuck.close()
    quick.close()
  })

  it('are told to a bounded number of subscribers, while everything else goes on', async () => {
    const clients = Array.from({ length: 10 }, connect)
    const streams = clients.flatMap((client) => Array.from({ length: 100 }, () => open(client)))
    const outcomes = await Promise.all(
      streams.map(
        (stream) =>
          new Promise<status>((resolve) => {
            stream.on('metadata', () => resolve(status.OK))
            stream.on('error', (error: ServiceError) => resolve(error.code))
            stream.resume()
          }),
      ),
    )
    const accepted = outcomes.filter((code) => code === status.OK).length
    assert.ok(accepted > 0 && accepted <= 100, String(accepted))
    assert.ok(outcomes.every((code) => code === status.OK || code === status.RESOURCE_EXHAUSTED))
    await world.cri.runtime.version({})
    for (const stream of streams) stream.cancel()
    for (const client of clients) client.close()
    // Whose connection ends makes room.
    const again = await until('there is room again', 20_000, () => listen().catch(() => undefined))
    again.close()
  })
})

/** No event says what the statuses that it carries would not. */
function assertAgrees(event: ContainerEventResponse): void {
  const { containerId, containerEventType: type, podSandboxStatus, containersStatuses } = event
  if (containerId === podSandboxStatus?.id) {
    const isUp = type === CREATED || type === STARTED
    assert.equal(podSandboxStatus.state, isUp ? PodSandboxState.SANDBOX_READY : PodSandboxState.SANDBOX_NOTREADY)
    return
  }
  const own = containersStatuses.find(({ id }) => id === containerId)
  const states = {
    [CREATED]: ContainerState.CONTAINER_CREATED,
    [STARTED]: ContainerState.CONTAINER_RUNNING,
    [STOPPED]: ContainerState.CONTAINER_EXITED,
    [DELETED]: undefined,
    [ContainerEventType.UNRECOGNIZED]: undefined,
  }
  assert.equal(own?.state, states[type])
}
