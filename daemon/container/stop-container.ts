/**
 * StopContainer: the stop signal, then SIGKILL when the grace period is over; a race of endings in which the exit, and
 * nothing else, counts as stopped. Repeatable, and an absent container is stopped already (api.proto, StopContainer).
 */
import { constants } from 'node:os'
import { signalNumber } from '#linux/signals.ts'
import type { Parts } from '../parts.ts'
import { waitFor } from '../wait.ts'
import type { Container } from './container.ts'

const { SIGKILL, SIGTERM } = constants.signals

export type StopNeeds = Pick<Parts, 'containers' | 'linux' | 'log' | 'operations' | 'stops' | 'watches'>

/**
 * @param graceSeconds how long the container has between its stop signal and SIGKILL; 0 or less kills at once
 * @param signal ends this caller's wait; the stop goes on
 */
export async function stopContainer(
  needs: StopNeeds,
  idOrPrefix: string,
  graceSeconds: bigint,
  signal?: AbortSignal,
): Promise<void> {
  const container = needs.containers.find(idOrPrefix)
  if (container) await stop(needs, container, Number(graceSeconds) * 1000, signal)
}

/** Stop this container; see `stopContainer`. */
export async function stop(
  needs: StopNeeds,
  container: Container,
  graceMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const { status, record } = container
  if (status.state !== 'created' && status.state !== 'running') return
  using operation = needs.operations.begin('StopContainer', record.id)
  operation.enter('signal')
  const { init } = status
  const ended = needs.watches.ended(record.id)
  // A container that was never started has nothing to shut down in good order.
  const grace = status.state === 'created' ? 0 : graceMs
  const kill = () => void needs.linux.signalProcess(init, SIGKILL)
  const began = needs.stops.killWithin(record.id, grace, kill)
  if (began) void ended.finally(() => needs.stops.over(record.id))
  if (began && grace > 0) needs.linux.signalProcess(init, stopSignal(status.process.stopSignal))
  operation.enter('exit')
  await waitFor(ended, signal)
  operation.enter('reply')
}

/** An image may name anything as its stop signal; what this host does not know counts as SIGTERM. */
const stopSignal = (name: string): number => signalNumber(name) ?? SIGTERM
