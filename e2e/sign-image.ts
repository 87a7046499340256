/** Signatures as cosign and gpg make them, put where they are looked for. */

import { execFile } from 'node:child_process'
import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { type Blob, pushBlob, putManifest } from './oci-image.ts'

const run = promisify(execFile)

export interface SigningKey {
  readonly privateKey: KeyObject
  /** The public one. */
  readonly pem: string
}

export function makeSigningKey(): SigningKey {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() }
}

function claimOf(name: string, digest: string, type: string): Buffer {
  const identity = { 'docker-reference': name }
  return Buffer.from(
    JSON.stringify({ critical: { identity, image: { 'docker-manifest-digest': digest }, type }, optional: {} }),
  )
}

const blobOf = (mediaType: string, bytes: Buffer): Blob => ({
  mediaType,
  bytes,
  digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
})

/** What `cosign sign --key` pushes beside an image. @param repository "127.0.0.1:5000/app" */
export async function cosign(repository: string, digest: string, key: SigningKey): Promise<void> {
  const [host = '', ...path] = repository.split('/')
  const url = `http://${host}/v2/${path.join('/')}`
  const config = blobOf('application/vnd.oci.image.config.v1+json', Buffer.from('{}'))
  const payload = claimOf(repository, digest, 'cosign container image signature')
  const claim = blobOf('application/vnd.dev.cosign.simplesigning.v1+json', payload)
  for (const blob of [config, claim]) await pushBlob(url, blob)
  const pointer = ({ mediaType, digest: of, bytes }: Blob) => ({ mediaType, digest: of, size: bytes.length })
  const signature = sign('sha256', payload, key.privateKey).toString('base64')
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: pointer(config),
    layers: [{ ...pointer(claim), annotations: { 'dev.cosignproject.cosign/signature': signature } }],
  }
  await putManifest(url, `${digest.replace(':', '-')}.sig`, blobOf(mediaType, Buffer.from(JSON.stringify(manifest))))
}

/** A keyring with one key, in a directory that is left behind. Stops the agent that gpg starts. */
export async function gpgSign(home: string, name: string, digest: string, file: string): Promise<{ keyring: Buffer }> {
  await mkdir(home, { mode: 0o700 })
  const gpg = async (...args: string[]): Promise<Buffer> => {
    const options = { encoding: 'buffer', env: { PATH: '/usr/bin:/bin', HOME: home } } as const
    return (await run('/usr/bin/gpg', ['--homedir', home, '--batch', '--quiet', ...args], options)).stdout
  }
  await gpg('--passphrase', '', '--quick-generate-key', 'signer@example.test', 'ed25519', 'sign', 'never')
  await writeFile(`${home}/claim`, claimOf(name, digest, 'atomic container signature'))
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, await gpg('--output', '-', '--sign', `${home}/claim`))
  const keyring = await gpg('--export')
  await run('/usr/bin/gpgconf', ['--homedir', home, '--kill', 'all'])
  return { keyring }
}
