/** The container that a request names, provided that its process runs. */
import { RuntimeError } from '#proto/errors.ts'
import type { Parts } from '../parts.ts'
import type { Container } from './container.ts'

/**
 * @param purpose completes "Cannot … container" in the refusal
 * @throws RuntimeError not-found, failed-precondition when it does not run
 */
export function runningContainer(
  { containers }: Pick<Parts, 'containers'>,
  idOrPrefix: string,
  purpose: string,
): Container {
  const container = containers.require(idOrPrefix)
  const { state } = container.status
  if (state === 'running') return container
  throw new RuntimeError('failed-precondition', `Cannot ${purpose} container "${container.record.id}": it is ${state}`)
}
