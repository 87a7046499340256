import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { proxiesOf, proxyFor } from './proxies.ts'

suite('proxies', () => {
  test('come from the environment in either case, the lower one first', () => {
    assert.deepEqual(proxiesOf({ HTTP_PROXY: 'a', http_proxy: 'b', HTTPS_PROXY: 'c', NO_PROXY: 'd' }), {
      http: 'b',
      https: 'c',
      no: 'd',
    })
    assert.deepEqual(proxiesOf({ HTTPS_PROXY: '' }), {})
  })

  const cases: [url: string, no: string, proxied: boolean][] = [
    ['https://r.example/', '', true],
    ['https://r.example/', '*', false],
    ['https://r.example/', 'example', false],
    ['https://r.example/', '.example', false],
    ['https://example/', '.example', true],
    ['https://r.example/', 'r.example', false],
    ['https://a.r.example/', 'R.Example', false],
    ['https://xr.example/', 'r.example', true],
    ['https://r.example:5000/', 'r.example:5000', false],
    ['https://r.example/', 'r.example:5000', true],
    ['https://r.example/', 'r.example:443', false],
    ['https://10.1.2.3/', '10.0.0.0/8', false],
    ['https://11.1.2.3/', '10.0.0.0/8', true],
    ['https://10.1.2.3/', '10.1.2.3', false],
    ['https://10.1.2.3/', '2.3', true],
    ['https://[fd00::1]/', 'fd00::/8', false],
    ['https://[fd00::1]/', 'fd00::1', false],
    ['https://r.example/', '10.0.0.0/8, other , r.example', false],
    ['https://r.example/', '10.0.0.0/99,/,x/y', true],
    ['http://r.example/', '', false],
    ['https://localhost:5000/', '', false],
    ['https://127.9.9.9/', '', false],
    ['https://[::1]/', '', false],
  ]
  for (const [url, no, proxied] of cases) {
    test(`${url} with NO_PROXY=${no}: ${proxied ? 'through it' : 'direct'}`, () =>
      assert.equal(proxyFor(new URL(url), { https: 'http://proxy', no }), proxied ? 'http://proxy' : undefined))
  }
})
