/** OpenPGP keys as people store them, in ASCII armour (RFC 9580, section 6.2), and as gpgv wants them, in binary. */

const BLOCK = /-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n([\s\S]*?)-----END PGP PUBLIC KEY BLOCK-----/g

/** All keys of the text, one after the other; what is not armoured stays as it is. @throws Error when there is no key in it */
export const dearmored = (bytes: Buffer): Buffer => {
  const first = bytes[0] ?? 0
  // Every packet of OpenPGP begins with the highest bit set.
  if ((first & 0x80) !== 0 || isKeybox(bytes)) return bytes
  const blocks = [...bytes.toString('latin1').matchAll(BLOCK)].map(([, body = '']) => content(body))
  if (blocks.length === 0) throw new Error('holds no OpenPGP public key')
  return Buffer.concat(blocks)
}

/** GnuPG's own store of keys, which gpgv reads as well. */
const isKeybox = (bytes: Buffer): boolean => bytes.toString('latin1', 8, 12) === 'KBXf'

/** Headers end at the first empty line; the checksum begins with "=". */
const content = (body: string): Buffer => {
  const lines = body.split(/\r?\n/)
  const start = lines.findIndex((line) => line.trim() === '') + 1
  return Buffer.from(
    lines
      .slice(start)
      .filter((line) => !line.startsWith('='))
      .join(''),
    'base64',
  )
}
