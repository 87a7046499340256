/** A directory with a CNI configuration and fake plugins, for tests of what the daemon does when plugins misbehave. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

export type FakeStep =
  | { do: 'result'; result: unknown }
  | { do: 'error'; code: number; msg: string; details?: string }
  | { do: 'print'; text: string; exit?: number }
  | { do: 'stderr'; text: string; exit?: number }
  | { do: 'flood'; bytes: number }
  | { do: 'kill' }
  | { do: 'hang' }

export type FakeScenario = Partial<Record<'ADD' | 'DEL' | 'CHECK' | 'STATUS' | 'GC', FakeStep[]>>

export interface FakeCall {
  name: string
  verb: string
  env: Record<string, string>
  config: Record<string, unknown>
  pid: number
}

export interface FakeNetwork {
  dir: string
  configDir: string
  binDir: string
  cacheDir: string
  /** Installs the plugin, or changes what it does from now on. */
  plugin(name: string, scenario?: FakeScenario): void
  /** Writes a configuration file. */
  config(file: string, content: unknown): void
  /** All calls of all plugins in order. */
  calls(): FakeCall[]
  /** `ADD one`, `DEL two`, … */
  sequence(): string[]
  /** Pids of children that hanging plugins started. */
  children(): number[]
  /** Called when the test ends, the last one first, before the directory goes. */
  defer(undo: () => void): void
}

const linesOf = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []

/** Makes the directory, which goes when the test ends. */
export const fakeNetwork = (t: TestContext): FakeNetwork => {
  const dir = mkdtempSync(join(tmpdir(), 'cricket-cni-'))
  // Hooks of a test run in the order in which they were added; undoing wants the opposite.
  const undos: (() => void)[] = [() => rmSync(dir, { recursive: true, force: true })]
  t.after(() => {
    for (const undo of undos.splice(0).reverse()) undo()
  })
  const configDir = join(dir, 'net.d')
  const binDir = join(dir, 'bin')
  mkdirSync(configDir)
  mkdirSync(binDir)
  const calls = join(dir, 'calls')
  const children = join(dir, 'children')
  const program = join(import.meta.dirname, 'fake-cni-plugin.mjs')
  return {
    dir,
    configDir,
    binDir,
    cacheDir: join(dir, 'cache'),
    plugin(name, scenario = {}) {
      const file = join(dir, `${name}.scenario`)
      writeFileSync(file, JSON.stringify({ ...scenario, calls, children }))
      const path = join(binDir, name)
      writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${program}' '${file}' '${name}'\n`)
      chmodSync(path, 0o755)
    },
    config: (file, content) =>
      writeFileSync(join(configDir, file), typeof content === 'string' ? content : JSON.stringify(content)),
    calls: () => linesOf(calls).map((line) => JSON.parse(line)),
    sequence: () =>
      linesOf(calls)
        .map((line) => JSON.parse(line))
        .map(({ verb, name }) => `${verb} ${name}`),
    defer: (undo) => void undos.push(undo),
    children: () => linesOf(children).map(Number),
  }
}

/** A chain of these plugins as a configuration file's content. */
export const chain = (...types: string[]) => ({
  cniVersion: '1.0.0',
  name: 'fake',
  plugins: types.map((type) => ({ type })),
})
