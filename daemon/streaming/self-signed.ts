/**
 * A certificate that vouches for itself (X.509, RFC 5280), made at start and kept in memory: for whoever wants the wire
 * encrypted without managing files. The kubelet does not check the certificate of its runtime's streaming server.
 */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { isIP, isIPv4 } from 'node:net'

const DAY_MS = 86_400_000
const LIFETIME_DAYS = 365

const der = (tag: number, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  const { length } = body
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), body])
  const bytes = length < 0x100 ? [length] : [length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length, ...bytes]), body])
}

const sequence = (...parts: Buffer[]): Buffer => der(0x30, ...parts)
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'))
const bits = (bytes: Buffer): Buffer => der(0x03, Buffer.from([0]), bytes)
const octets = (bytes: Buffer): Buffer => der(0x04, bytes)

const OID = {
  ecdsaWithSha256: oid('2a8648ce3d040302'),
  commonName: oid('550403'),
  subjectAltName: oid('551d11'),
  basicConstraints: oid('551d13'),
  extendedKeyUsage: oid('551d25'),
  serverAuth: oid('2b06010505070301'),
}

/** Two digits for the year before 2050 (UTCTime), four from then on (GeneralizedTime): `20261122113000Z`. */
const time = (ms: number): Buffer => {
  const text = `${new Date(ms).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`
  return text < '2050' ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text))
}

const addressBytes = (address: string): Buffer => {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number))
  const [head = '', tail] = address.split('::')
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16))
  const [before, after] = [groups(head), groups(tail ?? '')]
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0)
  return Buffer.from([...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 0xff]))
}

/** A host name (tag 2) or an address (tag 7) of the subject alternative name. */
const alternative = (name: string): Buffer =>
  isIP(name) === 0 ? der(0x82, Buffer.from(name)) : der(0x87, addressBytes(name))

const extension = (id: Buffer, value: Buffer, isCritical = false): Buffer =>
  sequence(id, ...(isCritical ? [der(0x01, Buffer.from([0xff]))] : []), octets(value))

const pem = (label: string, bytes: Buffer): string =>
  `-----BEGIN ${label}-----\n${bytes.toString('base64').replaceAll(/.{64}/g, '$&\n').trimEnd()}\n-----END ${label}-----\n`

export interface Certificate {
  cert: string
  key: string
  expiresAt: number
}

/**
 * A P-256 key and its certificate, in PEM.
 * @param names host names and addresses (IPv6 without an embedded IPv4) it is valid for
 * @param now milliseconds since the epoch; it is valid from a day before, for clocks differ
 */
export const makeSelfSigned = (names: readonly string[], now = Date.now()): Certificate => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const algorithm = sequence(OID.ecdsaWithSha256)
  const subject = sequence(der(0x31, sequence(OID.commonName, der(0x0c, Buffer.from('cricket streaming')))))
  const expiresAt = now + LIFETIME_DAYS * DAY_MS
  const extensions = sequence(
    extension(OID.basicConstraints, sequence(), true),
    extension(OID.extendedKeyUsage, sequence(OID.serverAuth)),
    extension(OID.subjectAltName, sequence(...names.map(alternative))),
  )
  // A positive number of 127 bits.
  const serial = randomBytes(16)
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40, 0)
  const content = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    subject,
    sequence(time(now - DAY_MS), time(expiresAt)),
    subject,
    publicKey.export({ format: 'der', type: 'spki' }),
    der(0xa3, extensions),
  )
  const signature = sign('sha256', content, privateKey)
  return {
    cert: pem('CERTIFICATE', sequence(content, algorithm, bits(signature))),
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    expiresAt,
  }
}
