/** What configuration and annotations give a container: each feature reaches the spec builder, for whom it is meant and no other. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { LinuxContainerResources } from '#proto/generated/api.ts'
import { defaultConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { mintSandboxId } from '../ids.ts'
import { UNKNOWN_FEATURES } from '../oci/runtime-features.ts'
import type { RuntimeHandler } from '../oci/runtime-handlers.ts'
import { containerConfig, sandboxConfig } from '../oci/spec/testing/spec-case.ts'
import { Stored } from '../records/stored.ts'
import type { Sandbox, SandboxRecord, SandboxStatus } from '../sandbox/sandbox.ts'
import { nodeFeatures, notifierAction } from './node-features.ts'

const dir = mkdtempSync(join(tmpdir(), 'cricket-node-features-'))
after(() => rmSync(dir, { recursive: true, force: true }))

const runc: RuntimeHandler = {
  name: 'runc',
  path: '/usr/sbin/runc',
  root: '/run/runc',
  createTimeoutSeconds: 60,
  features: UNKNOWN_FEATURES,
}

const podWith = (annotations: Record<string, string>): Sandbox =>
  new Stored<SandboxRecord, SandboxStatus>(
    {
      version: 1,
      id: mintSandboxId(),
      key: '',
      createdAt: 0n,
      runtimeHandler: '',
      bootId: '',
      cookie: '',
      config: sandboxConfig({ annotations }),
    },
    { state: 'creating' },
    async () => {},
  )

const resources = LinuxContainerResources.fromPartial({ cpuShares: 5n, cpuQuota: 1000n })

interface Asked {
  readonly pod?: Record<string, string>
  readonly container?: Record<string, string>
  readonly settings?: Partial<Config>
  readonly handler?: Partial<RuntimeHandler>
}

const featuresOf = ({ pod = {}, container = {}, settings = {}, handler = {} }: Asked) => {
  const config = containerConfig({ annotations: container, linux: { resources } })
  return nodeFeatures({ ...defaultConfig(), ...settings }, { ...runc, ...handler }, podWith(pod), config, '/listener')
}

test('classes reach the spec, with what of them this node lacks as a warning', () => {
  const blockioConfig = join(dir, 'blockio.yaml')
  writeFileSync(blockioConfig, 'Classes: {slow: [{Weight: 80}, {Devices: [/dev/no-such-disk], Weight: 50}]}')
  const container = { ...defaultConfig().container, rdtClasses: { gold: { memBwSchema: 'MB:0=50' } }, blockioConfig }
  const pod = { 'rdt.resources.beta.kubernetes.io/container.web': 'gold' }
  const { node, warnings } = featuresOf({
    pod,
    container: { 'io.kubernetes.cri.blockio-class': 'slow' },
    settings: { container },
  })
  assert.deepEqual(node.rdt, { closID: 'gold', memBwSchema: 'MB:0=50' })
  assert.deepEqual(node.blockIo, { weight: 80 })
  assert.deepEqual(warnings, ['Block I/O class: "/dev/no-such-disk" is no block device of this host'])
  const none = featuresOf({ settings: { container } }).node
  assert.deepEqual([none.rdt, none.blockIo], [undefined, undefined])
})

test('a workload has its resources in the place of the request, and its annotations count beside those of the handler', () => {
  const workload = {
    activationAnnotation: 'example.com/management',
    annotationPrefix: 'example.com/resources',
    allowedAnnotations: ['io.cricket.umask'],
    resources: { cpushares: 77 },
  }
  const settings = { workloads: { management: workload } }
  const handler = { allowedAnnotations: ['io.cricket.shm-size'] }
  const wishes = { 'io.cricket.umask': '0027', 'io.cricket.shm-size': '1Mi', 'io.cricket.cpu-quota': 'disable' }
  const inside = featuresOf({
    pod: { ...wishes, 'example.com/management': '', 'example.com/resources/web': '{"cpuquota": 5000}' },
    settings,
    handler,
  })
  assert.equal(inside.config.linux?.resources?.cpuShares, 77n)
  assert.equal(inside.config.linux?.resources?.cpuQuota, 5000n)
  assert.deepEqual(inside.annotations.features, { umask: '0027', shmSize: '1Mi' })
  assert.deepEqual(inside.warnings, [
    'Annotation "io.cricket.cpu-quota" has no effect: handler "runc" does not allow it',
  ])
  const outside = featuresOf({ pod: wishes, settings, handler })
  assert.deepEqual(outside.config.linux?.resources, resources)
  assert.deepEqual(outside.annotations.features, { shmSize: '1Mi' })
})

test('a listener for refused system calls is there for those that may have one', () => {
  const handler = { allowedAnnotations: ['io.cricket.seccomp-notifier'] }
  const asked = (word: string) => featuresOf({ pod: { 'io.cricket.seccomp-notifier': word }, handler })
  for (const [word, action] of [
    ['stop', 'stop'],
    ['log', 'log'],
    ['', 'log'],
  ] as const) {
    const { node, annotations } = asked(word)
    assert.deepEqual([node.seccompListener, notifierAction(annotations)], ['/listener', action])
  }
  assert.throws(
    () => asked('explode'),
    (error) => isKind(error, 'invalid-argument') && /"explode"/.test(error.message),
  )
  assert.equal(featuresOf({ pod: { 'io.cricket.seccomp-notifier': 'stop' } }).node.seccompListener, undefined)
})
