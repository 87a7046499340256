import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { VERSION } from './version.ts'

test('the version is the one of package.json', () => {
  const manifest = JSON.parse(readFileSync(`${import.meta.dirname}/../package.json`, 'utf8'))
  assert.equal(VERSION, manifest.version)
})
