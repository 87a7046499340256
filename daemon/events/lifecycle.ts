/**
 * What clients are to be told of a change of a sandbox or container. An event follows from the state that was just published, and is
 * made in the same tick, so that no event says what a status would not.
 *
 *   container   creating ──created──► created ──started──► running ──stopped──► exited ──deleted──►
 *   sandbox     creating ──created, started──► ready ──stopped──► stopped ──deleted──►
 */
import type { ContainerRecord, ContainerStatus } from '../container/container.ts'
import type { Change } from '../records/record-store.ts'
import type { SandboxRecord, SandboxStatus } from '../sandbox/sandbox.ts'

export type EventType = 'created' | 'started' | 'stopped' | 'deleted'

/** Of an unfinished creation nobody is told, whatever becomes of it. */
export function containerEvents(change: Change<ContainerRecord, ContainerStatus>): readonly EventType[] {
  const { state } = change.object.status
  if (change.is === 'deleted') return state === 'creating' ? [] : ['deleted']
  const { before } = change
  switch (state) {
    case 'creating':
      return []
    case 'created':
      return before.state === 'creating' ? ['created'] : []
    case 'running':
      // New limits are no event of a life.
      return before.state === 'running' ? [] : ['started']
    case 'exited':
      // Also when the time of its start became known only after its end: what was told before is no longer the whole truth.
      return ['stopped']
  }
}

/** That a stopped sandbox has given back its network changes nothing that clients see. */
export function sandboxEvents(change: Change<SandboxRecord, SandboxStatus>): readonly EventType[] {
  const { state } = change.object.status
  if (change.is === 'deleted') return state === 'creating' ? [] : ['deleted']
  const { before } = change
  switch (state) {
    case 'creating':
      return []
    case 'ready':
      return before.state === 'ready' ? [] : ['created', 'started']
    case 'stopped':
      return before.state === 'stopped' ? [] : ['stopped']
  }
}
