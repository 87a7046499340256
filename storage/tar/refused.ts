/** The two ways to refuse a layer. Names from archives are shown cut and quoted, so that they cannot forge log lines. */
import { RuntimeError } from '#proto/errors.ts'

/** The archive is broken, lies or asks for what it must not: failed-precondition. */
export const refused = (message: string): RuntimeError => new RuntimeError('failed-precondition', message)

/** The archive asks for too much: resource-exhausted. */
export const tooMuch = (message: string): RuntimeError => new RuntimeError('resource-exhausted', message)

/** A name (one character per byte) for a message. */
export const shown = (name: string): string => {
  const text = Buffer.from(name.slice(0, 200), 'latin1').toString('utf8')
  return JSON.stringify(name.length > 200 ? `${text}…` : text)
}
