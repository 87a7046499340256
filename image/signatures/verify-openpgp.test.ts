import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { dearmored } from '../policy/armor.ts'
import { Gpg, hasGpg } from '../testing/gpg.ts'
import { BadSignature } from './evidence.ts'
import { verifyOpenpgp } from './verify-openpgp.ts'

const refused = (verification: Promise<unknown>, why: RegExp): Promise<void> =>
  assert.rejects(verification, (error) => error instanceof BadSignature && why.test(error.message))

suite('an OpenPGP message', { skip: !hasGpg() && 'host lacks gpg' }, () => {
  test('is good by a key of any of the keyrings, armoured ones too, and says what was signed', async () => {
    await using gpg = await Gpg.make()
    await gpg.addKey('one@example.test')
    await gpg.addKey('two@example.test')
    const content = Buffer.from('{"critical": {}}')
    const message = await gpg.sign(content, 'two@example.test')
    const one = await gpg.exportKey('one@example.test')
    const two = await gpg.exportKey('two@example.test', { armor: true })
    assert.deepEqual(await verifyOpenpgp(message, [one, dearmored(two)]), content)
    const both = Buffer.concat([await gpg.exportKey('one@example.test', { armor: true }), two])
    assert.deepEqual(await verifyOpenpgp(message, [dearmored(both)]), content)
    assert.deepEqual(await verifyOpenpgp(message, [dearmored(await gpg.keybox())]), content)
    await refused(verifyOpenpgp(message, [one]), /NO_PUBKEY|ERRSIG/)
  })

  test('is none when it is broken, not signed, signed twice, or the signature of something else', async () => {
    await using gpg = await Gpg.make()
    await gpg.addKey('one@example.test')
    const ring = [await gpg.exportKey('one@example.test')]
    const content = Buffer.from('content of some length, so that a bit can be changed in it')
    const plain = await gpg.sign(content, 'one@example.test', ['--compress-level', '0', '--sign'])
    const broken = Buffer.from(plain)
    const at = broken.indexOf('some length')
    broken.write('SOME', at)
    await refused(verifyOpenpgp(broken, ring), /BADSIG/)
    await refused(verifyOpenpgp(Buffer.from('nothing'), ring), /NODATA|no signature/)
    await refused(verifyOpenpgp(Buffer.alloc(0), ring), /no signature|NODATA/)
    await refused(verifyOpenpgp(Buffer.concat([plain, plain]), ring), /UNEXPECTED|not one message|BAD|no signature/)
    await gpg.addKey('two@example.test')
    const rings = [...ring, await gpg.exportKey('two@example.test')]
    const both = await gpg.sign(content, 'one@example.test', ['--local-user', 'two@example.test', '--sign'])
    await refused(verifyOpenpgp(both, rings), /not one message with one good signature/)
    const stored = await gpg.sign(content, 'one@example.test', ['--store'])
    await refused(verifyOpenpgp(stored, ring), /no signature|NODATA|not one message/)
    const detached = await gpg.sign(content, 'one@example.test', ['--detach-sign'])
    await refused(verifyOpenpgp(detached, ring), /./)
  })
})
