/** What is concluded from the versions that an OCI runtime tells. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseFeatures, UNKNOWN_FEATURES } from './runtime-features.ts'

const ofRunc = (version: string) =>
  parseFeatures(JSON.stringify({ annotations: { 'org.opencontainers.runc.version': version } })).followsVolumes

test('cve-2024-45310: runc before 1.1.14, and what tells nothing, is led out of volumes', () => {
  for (const version of ['1.1.5+ds1', '1.1.13', '1.0.3', '1.2.0-rc.1', '1.2.0-rc.2+dev']) {
    assert.equal(ofRunc(version), true, version)
  }
  for (const version of ['1.1.14', '1.1.15+ds1', '1.2.0-rc.3', '1.2.0', '1.4.0-rc.1']) {
    assert.equal(ofRunc(version), false, version)
  }
  assert.equal(parseFeatures('{"annotations":{"run.oci.crun.version":"1.8"}}').followsVolumes, false)
  assert.equal(UNKNOWN_FEATURES.followsVolumes, true)
})
