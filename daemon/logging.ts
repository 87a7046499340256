/**
 * The daemon's log: winston behind proto/log.ts. A message of a disabled level costs one empty call, since winston
 * alone would spend about 10 µs on finding out that nobody wants it.
 */

import { createLogger, format, transports } from 'winston'
import type { Log } from '#proto/log.ts'
import type { LogLevel } from './config/schema.ts'
import { plainFields } from './log-fields.ts'

export interface LogOptions {
  /** The least important level that is written. */
  level: LogLevel
  /** `json`: one object a line, for collectors. `text`: for people. Not given: text. */
  format?: 'json' | 'text'
  /** Not given: standard error. */
  stream?: NodeJS.WritableStream
}

type Fields = Record<string, unknown>
type Write = (level: LogLevel, message: string, always: Fields, fields: Fields | undefined) => void

/** Importance, most important first, as winston wants it. */
const LEVELS: Record<LogLevel, number> = { error: 0, warn: 1, info: 2, debug: 3 }

const nothing = () => {}

const jsonLine = format.printf(({ level, message, ...fields }) =>
  JSON.stringify({ time: new Date().toISOString(), level, message, ...fields }),
)

const needsQuotes = /[\s"=\u0000-\u001f\u007f-\u009f\u2028\u2029]|^$/

/** JSON escapes C0 only; the rest that could move a terminal's cursor or fake a line is escaped here. */
const quoted = (text: string): string =>
  JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

const textValue = (value: unknown): string => {
  if (typeof value !== 'string') return JSON.stringify(value)
  return needsQuotes.test(value) ? quoted(value) : value
}

const oneLine = (message: string): string => quoted(message).slice(1, -1).replaceAll('\\"', '"')

const textLine = format.printf(({ level, message, ...fields }) => {
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${textValue(value)}`)
  return `${new Date().toISOString()} ${level.padEnd(5)} ${oneLine(String(message))}${pairs.join('')}`
})

/** Shared by a log and its children, so that all follow when it changes. */
interface Threshold {
  level: LogLevel
}

const logOver = (write: Write, threshold: Threshold, always: Fields): Log => {
  const at = (own: LogLevel) => (message: string, fields?: Fields) => {
    if (LEVELS[own] <= LEVELS[threshold.level]) write(own, message, always, fields)
  }
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => logOver(write, threshold, { ...always, ...fields }),
  }
}

/** A log whose level can be changed, for itself and all its children. */
export interface AdjustableLog extends Log {
  setLevel(level: LogLevel): void
}

/**
 * The log that everything in the daemon writes to. It never throws, and a reader that went away (EPIPE) or a full disk
 * is ignored: losing log lines must not end containers.
 */
export const createLog = (options: LogOptions): AdjustableLog => {
  const stream = options.stream ?? process.stderr
  stream.on('error', nothing)
  const logger = createLogger({
    levels: LEVELS,
    // Checked before winston is asked.
    level: 'debug',
    format: options.format === 'json' ? jsonLine : textLine,
    transports: [new transports.Stream({ stream, eol: '\n' })],
    exitOnError: false,
  })
  logger.on('error', nothing)
  const write: Write = (level, message, always, fields) => {
    try {
      logger.log({ ...plainFields(always, fields), level, message })
    } catch {
      // Nothing is left to report it to.
    }
  }
  const threshold: Threshold = { level: options.level }
  return {
    ...logOver(write, threshold, {}),
    setLevel: (level) => {
      threshold.level = level
    },
  }
}
