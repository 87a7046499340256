import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type AddressClass, addressClass } from './address-class.ts'

suite('address class', () => {
  const cases: Record<AddressClass, string[]> = {
    public: ['1.1.1.1', '172.32.0.1', '2606:4700::1111', '64:ff9b::101:101'],
    private: [
      '10.1.2.3',
      '172.31.255.255',
      '192.168.0.1',
      '100.64.0.1',
      'fd12::1',
      '::ffff:10.0.0.1',
      '64:ff9b::a00:1',
    ],
    loopback: ['127.0.0.1', '127.255.0.1', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1'],
    forbidden: [
      '0.0.0.0',
      '::',
      '169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      'fd00:ec2::254',
      '::ffff:169.254.169.254',
      '64:ff9b::a9fe:a9fe',
      '224.0.0.1',
      '255.255.255.255',
      'ff02::1',
      'not an address',
      '',
    ],
  }
  for (const [expected, addresses] of Object.entries(cases)) {
    for (const address of addresses) {
      test(`${JSON.stringify(address)} is ${expected}`, () => assert.equal(addressClass(address), expected))
    }
  }
})
