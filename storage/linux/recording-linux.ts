/** A Linux value that does the real thing, writes down every call, and fails where a test says so. */
import { LinuxError } from './errno.ts'
import { type Linux, linux } from './linux.ts'

export interface LinuxCall {
  name: string
  args: unknown[]
}

export interface RecordingLinux {
  linux: Linux
  /** All calls so far, the failed ones included. */
  calls: LinuxCall[]
  /** Makes the n-th call of `name` from now on (1 is the next) fail with this errno name, without doing anything. */
  failCall(name: keyof Linux, nth: number, code: string): void
}

/** Records calls to `base`, the real functions unless given. */
export const recordLinux = (base: Linux = linux): RecordingLinux => {
  const calls: LinuxCall[] = []
  const failures: { name: string; left: number; code: string }[] = []
  const failureOf = (name: string): string | undefined => {
    const mine = failures.filter((failure) => failure.name === name)
    for (const failure of mine) failure.left--
    const due = mine.find(({ left }) => left === 0)
    return due?.code
  }
  const recording = new Proxy(base, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver)
      if (typeof value !== 'function' || typeof name !== 'string') return value
      return (...args: unknown[]) => {
        calls.push({ name, args })
        const code = failureOf(name)
        if (code === undefined) return Reflect.apply(value, undefined, args)
        const error = new LinuxError(code, name)
        // Async functions report by rejecting.
        if (Object.prototype.toString.call(value) === '[object AsyncFunction]') return Promise.reject(error)
        throw error
      }
    },
  })
  return { linux: recording, calls, failCall: (name, nth, code) => void failures.push({ name, left: nth, code }) }
}
