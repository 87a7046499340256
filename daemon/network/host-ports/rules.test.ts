import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { PortMapping } from '../attachment.ts'
import { claimsOf } from './claim.ts'
import { type PodAddress, type PublishedPod, tableFor, tableRemoval } from './rules.ts'
import { missingForLab } from './testing/lab.ts'

const pod = (mappings: PortMapping[], ...addresses: PodAddress[]): PublishedPod => ({
  claims: mappings.flatMap(claimsOf),
  addresses,
})

const WEB: PodAddress[] = [
  { family: 4, address: '10.88.0.5', prefixLength: 16 },
  { family: 6, address: 'fd00::5', prefixLength: 64 },
]

const cases: Record<string, PublishedPod[]> = {
  'dual-stack': [
    pod(
      [
        { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
        { hostPort: 5353, containerPort: 53, protocol: 'udp' },
        { hostPort: 9999, containerPort: 9999, protocol: 'sctp' },
      ],
      ...WEB,
    ),
  ],
  'host-addresses': [
    pod(
      [
        { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
        { hostPort: 8080, containerPort: 81, protocol: 'tcp', hostIP: '127.0.0.1' },
        { hostPort: 8080, containerPort: 82, protocol: 'tcp', hostIP: '2001:db8::1' },
        { hostPort: 8443, containerPort: 443, protocol: 'tcp', hostIP: '0.0.0.0' },
      ],
      ...WEB,
    ),
    // A pod with one family: what it claims of the other leads nowhere.
    pod([{ hostPort: 7000, containerPort: 70, protocol: 'tcp' }], {
      family: 4,
      address: '10.88.0.6',
      prefixLength: 32,
    }),
  ],
}

for (const [name, pods] of Object.entries(cases)) {
  test(`the rules of ${name} are as in testdata, and nft understands them`, (t) => {
    const file = join(import.meta.dirname, 'testdata', `${name}.nft`)
    const text = tableFor('cricket', pods)
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text)
    assert.equal(text, readFileSync(file, 'utf8'))
    const missing = missingForLab()
    if (missing !== undefined) return t.skip(`host lacks ${missing}`)
    // Twice: what is there is replaced.
    const input = text + text
    execFileSync('/usr/bin/unshare', ['--net', '/usr/sbin/nft', '-f', '-'], { input, stdio: 'pipe' })
  })
}

test('without pods there is no table', () => {
  assert.equal(tableFor('cricket', []), tableRemoval('cricket'))
})
