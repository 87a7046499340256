/** A request frame into a Request. Pure. */
import { decodeObject, type Request } from '#proto/conmon.ts'
import { MonitorFailure } from './failure.ts'

const MAX_CELLS = 0xffff

export interface ParsedRequest {
  readonly id: number
  /** Undefined when the request is not one this monitor can carry out; then `failure` says why. */
  readonly request?: Request
  readonly failure?: MonitorFailure
}

/** @throws TypeError when not even the request's id can be read */
export function parseRequest(payload: Buffer): ParsedRequest {
  const fields = decodeObject(payload)
  const id = fields?.id
  if (fields === undefined || typeof id !== 'number' || !Number.isSafeInteger(id)) {
    throw new TypeError('request has no id')
  }
  try {
    return { id, request: requestFrom(id, fields) }
  } catch (error) {
    if (error instanceof MonitorFailure) return { id, failure: error }
    throw error
  }
}

function requestFrom(id: number, fields: Record<string, unknown>): Request {
  const name = fields.request
  switch (name) {
    case 'create':
    case 'start':
    case 'status':
    case 'close-stdin':
    case 'shutdown':
      return { id, request: name }
    case 'reopen-log':
      return { id, request: name, ...(typeof fields.notAfter === 'number' && { notAfter: fields.notAfter }) }
    case 'attach':
      return {
        id,
        request: name,
        stdin: yes(fields, 'stdin'),
        stdout: yes(fields, 'stdout'),
        stderr: yes(fields, 'stderr'),
      }
    case 'resize':
      return { id, request: name, width: cells(fields, 'width'), height: cells(fields, 'height') }
    default:
      throw new MonitorFailure('unimplemented', `This monitor does not know the request "${String(name)}"`)
  }
}

const yes = (fields: Record<string, unknown>, name: string): boolean => fields[name] === true

function cells(fields: Record<string, unknown>, name: string): number {
  const value = fields[name]
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_CELLS) return value
  throw new MonitorFailure(
    'invalid-argument',
    `Terminal ${name} "${String(value)}" is not a whole number up to ${MAX_CELLS}`,
  )
}
