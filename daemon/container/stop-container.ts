/**
 * StopContainer: the stop signal, then SIGKILL when the grace period is over; a race of endings in which the exit, and
 * nothing else, counts as stopped. Repeatable, and an absent container is stopped already (api.proto, StopContainer).
 */
import { constants } from 'node:os'
import { signalNumber } from '#linux/signals.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import { nowNs } from '../clock.ts'
import { hostCgroupPath } from '../oci/cgroup-path.ts'
import type { Parts } from '../parts.ts'
import { waitFor } from '../wait.ts'
import type { Container } from './container.ts'
import { exited } from './watch-exit.ts'

const { SIGKILL, SIGTERM } = constants.signals

export type StopNeeds = Pick<Parts, 'containers' | 'linux' | 'log' | 'operations' | 'stops' | 'watches'>

/**
 * How long a caller waits after SIGKILL, which a process in an uninterruptible sleep does not heed. Less than the two minutes
 * that the kubelet adds to the grace period. The kill is repeated until it works, whoever waits.
 */
const afterKillMs = 90_000

/** Node fires timers beyond this at once. */
const longestTimerMs = 2 ** 31 - 1

/**
 * @param graceSeconds how long the container has between its stop signal and SIGKILL; 0 or less kills at once
 * @param signal ends this caller's wait; the stop goes on
 * @throws RuntimeError deadline-exceeded when the container has not ended well after SIGKILL
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
  if (status.state === 'created' && !status.init && !needs.watches.has(record.id)) return await endUnstarted(container)
  const ended = needs.watches.ended(record.id)
  // A container that was never started has nothing to shut down in good order.
  const grace = status.state === 'created' ? 0 : graceMs
  const kill = () => send(needs, container, SIGKILL)
  const began = needs.stops.killWithin(record.id, grace, kill)
  if (began) void ended.finally(() => needs.stops.over(record.id))
  if (began && grace > 0) send(needs, container, stopSignal(status.process.stopSignal))
  operation.enter('exit')
  await waitFor(Promise.race([ended, stuck(container, grace, ended)]), signal)
  operation.enter('reply')
}

/** Made from a checkpoint and never started: there is nothing to kill, and nobody to tell of an end. */
async function endUnstarted(container: Container): Promise<void> {
  const exit = { exitCode: 128 + SIGKILL, reason: 'Error', message: '', finishedAt: nowNs() }
  await container.update((now) => exited(now, exit), { durable: true, orLater: true })
}

/** Somebody may have frozen it: then the signal, even SIGKILL on cgroup version 1, waits until it is thawed. */
function send({ linux, log }: StopNeeds, { record: { id, cgroupsPath }, status }: Container, signal: number) {
  // None yet of one that is just being restored: the kill is repeated.
  if ('init' in status && status.init) linux.signalProcess(status.init, signal)
  try {
    if (linux.thawCgroup(hostCgroupPath(cgroupsPath))) log.info('Thawed a container to stop it', { container: id })
  } catch (error) {
    log.warn('Cannot thaw a container to stop it', { container: id, why: messageOf(error) })
  }
}

function stuck({ record: { id }, status }: Container, graceMs: number, ended: Promise<void>): Promise<never> {
  const pid = ('init' in status ? status.init?.pid : undefined) ?? 'none yet'
  return new Promise((_, reject) => {
    const give = () =>
      reject(
        new RuntimeError(
          'deadline-exceeded',
          `Container "${id}" has not ended ${afterKillMs / 1000} s after SIGKILL (process ${pid}); killing it goes on`,
        ),
      )
    const timer = setTimeout(give, Math.min(Math.max(graceMs, 0) + afterKillMs, longestTimerMs))
    timer.unref()
    void ended.finally(() => clearTimeout(timer))
  })
}

/** An image may name anything as its stop signal; what this host does not know counts as SIGTERM. */
const stopSignal = (name: string): number => signalNumber(name) ?? SIGTERM
