import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { defaultConfig } from './load.ts'
import { LiveConfig, planReload } from './reload.ts'
import type { Config } from './schema.ts'

const withLevel = (logLevel: Config['logLevel'], more: Partial<Config> = {}): Config => ({
  ...defaultConfig(),
  logLevel,
  ...more,
})

function live(first: Config) {
  const told: unknown[] = []
  const next = { load: () => first }
  const config = new LiveConfig({
    config: first,
    load: () => next.load(),
    followers: {
      setLogLevel: (level) => told.push(level),
      setRuntimes: async ({ handlers }) => void told.push(Object.keys(handlers)),
      setInsecureRegistries: (hosts) => told.push(hosts),
      setStreaming: () => {},
    },
    log: silentLog,
  })
  return { config, next, told }
}

test('what can change does, what cannot is named and stays', () => {
  const old = withLevel('info')
  const fresh = withLevel('debug', {
    root: '/elsewhere',
    runtimes: { default: 'crun', handlers: { crun: { path: '/usr/bin/crun', root: '/run/crun' } } },
    image: { ...old.image, insecureRegistries: ['here:5000'], preload: ['/images'] },
  })
  const { config, changed, needRestart } = planReload(old, fresh)
  assert.deepEqual(changed.toSorted(), [
    'image.insecureRegistries',
    'logLevel',
    'runtimes.default',
    'runtimes.handlers',
  ])
  assert.deepEqual(needRestart.toSorted(), ['image.preload', 'root'])
  assert.equal(config.root, old.root)
  assert.equal(config.runtimes.default, 'crun')
  assert.deepEqual(Object.keys(config.runtimes.handlers), ['crun'])
  assert.deepEqual(config.image, { ...old.image, insecureRegistries: ['here:5000'] })
  assert.deepEqual(planReload(old, old).changed, [])
})

test('a broken configuration changes nothing, and the next good one is taken', async () => {
  const first = withLevel('info')
  const { config, next, told } = live(first)
  next.load = () => {
    throw new RuntimeError('invalid-argument', 'config.yaml:3: nonsense')
  }
  await config.reload()
  assert.equal(config.config, first)
  assert.deepEqual(told, [])
  next.load = () => withLevel('debug')
  await config.reload()
  assert.equal(config.config.logLevel, 'debug')
  assert.deepEqual(told, [[], 'debug'])
})
