import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RuntimeError } from '#proto/errors.ts'
import { NamespaceMode, PodSandboxConfig } from '#proto/generated/api.ts'
import { validateSandboxConfig } from './validate-sandbox.ts'

const metadata = { name: 'web', uid: 'u1', namespace: 'default', attempt: 0 }
type Partial = Parameters<typeof PodSandboxConfig.fromPartial>[0]
const config = (more: Partial = {}) => PodSandboxConfig.fromPartial({ metadata, ...more })

function refused(more: Partial, field: string) {
  assert.throws(
    () => validateSandboxConfig(config(more)),
    (error) => error instanceof RuntimeError && error.kind === 'invalid-argument' && error.message.includes(field),
    field,
  )
}

test('a plain pod is accepted as it is', () => {
  const plain = config({ hostname: 'web-0.example', logDirectory: '/var/log/pods/x' })
  assert.equal(validateSandboxConfig(plain), plain)
})

test('what is missing or malformed is refused by its field', () => {
  refused({ metadata: { ...metadata, name: '' } }, 'metadata.name')
  refused({ metadata: { ...metadata, uid: '' } }, 'metadata.uid')
  refused({ metadata: { ...metadata, namespace: '' } }, 'metadata.namespace')
  refused({ hostname: 'a\nb' }, 'hostname')
  refused({ hostname: 'a'.repeat(65) }, 'hostname')
  refused({ logDirectory: 'var/log' }, 'log_directory')
  const options = (namespaceOptions: object) => ({ linux: { securityContext: { namespaceOptions } } })
  refused(options({ network: NamespaceMode.CONTAINER }), 'network')
  refused(options({ pid: NamespaceMode.TARGET }), 'pid')
  refused(options({ usernsOptions: { mode: NamespaceMode.POD } }), 'userns_options')
})
