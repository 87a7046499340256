/** Images under a signature policy, as the kubelet sees it: at PullImage, and again at CreateContainer. */

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { after, before, describe, it } from 'node:test'
import { status } from '@grpc/grpc-js'
import { failsWith } from './cri-client.ts'
import { cricketProgram, startCricket } from './cricket.ts'
import { imageSpec } from './image-spec.ts'
import { busyboxImage, makeImage, makeLayer, type OciImage, pushImage } from './oci-image.ts'
import { containerConfig, createContainer, podConfig, removePod } from './pods.ts'
import { type Registry, startRegistry } from './registry.ts'
import { type Runtime, runToEnd } from './runtime.ts'
import { cosign, gpgSign, makeSigningKey } from './sign-image.ts'
import { createSite, removeSite, type Site } from './site.ts'

const hasGpg = existsSync('/usr/bin/gpg') && existsSync('/usr/bin/gpgv')

describe('an image', () => {
  const [key, other] = [makeSigningKey(), makeSigningKey()]
  let site: Site
  let registry: Registry
  let runtime: Runtime
  let image: OciImage
  let digest = ''

  const repository = () => `${registry.host}/team/app`
  const signedBy = ({ pem } = key) => [
    {
      type: 'sigstoreSigned',
      keyData: Buffer.from(pem).toString('base64'),
      signedIdentity: { type: 'matchRepository' },
    },
  ]
  const writePolicy = (requirements: unknown, file = 'policy.json') =>
    writeFile(
      site.path(file),
      JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: { [registry.host]: requirements } } }),
    )
  const pull = (name = `${repository()}:1`, namespace = 'default') =>
    runtime.cri.images.pullImage({
      image: imageSpec(name),
      sandboxConfig: { ...sandboxOf, metadata: { name: 'p', uid: 'u', namespace, attempt: 0 } },
    })
  let sandboxOf: Awaited<ReturnType<typeof podConfig>>
  // UNKNOWN, and the word first: only then does the kubelet see it.
  const refused = (why: RegExp) =>
    failsWith(status.UNKNOWN, new RegExp(`^SignatureValidationFailed: .*${why.source}`, 's'))

  before(async () => {
    site = await createSite()
    registry = await startRegistry(site.dir)
    image = await busyboxImage()
    digest = await pushImage(registry.url, 'team/app', '1', image)
    await mkdir(site.path('namespaces'))
    await mkdir(site.path('places'))
    await writePolicy(signedBy())
    await writePolicy(signedBy(other), 'namespaces/prod.json')
    const paths = { signaturePolicy: 'policy.json', signaturePolicyDir: 'namespaces', signaturePlaces: 'places' }
    const keys = Object.fromEntries(Object.entries(paths).map(([name, file]) => [name, site.path(file)]))
    runtime = await startCricket(site, { sections: { image: { ...keys, insecureRegistries: [registry.host] } } })
    sandboxOf = await podConfig(site, 'asker')
  })
  after(async () => {
    await runtime?.stop()
    await registry?.stop()
    await removeSite(site)
  })

  it('is pulled once it is signed, and refused in the words that the kubelet reads until then', async () => {
    await assert.rejects(pull(), refused(/needs a signature/))
    await cosign(repository(), digest, other)
    await assert.rejects(pull(), refused(/no key of the policy made it/))
    assert.deepEqual((await runtime.cri.images.listImages({})).images, [])
    await cosign(repository(), digest, key)
    assert.equal((await pull()).imageRef, image.config.digest)
    await assert.rejects(pull(`${repository()}:1`, 'prod'), refused(/no key of the policy made it/))
  })

  it('is judged again when a container is created: for its namespace, by the policy of then, without the registry', async () => {
    await registry.stop()
    const create = async (namespace: string, ref: string): Promise<void> => {
      const base = await podConfig(site, `in-${namespace}`)
      const sandbox = { ...base, metadata: { name: `in-${namespace}`, uid: namespace, namespace, attempt: 0 } }
      const { podSandboxId } = await runtime.cri.runtime.runPodSandbox({ config: sandbox })
      try {
        const config = containerConfig('main', ref, ['true'])
        await createContainer(runtime.cri, podSandboxId, sandbox, {
          ...config,
          image: { ...imageSpec(ref), userSpecifiedImage: `${repository()}:1` },
        })
      } finally {
        await removePod(runtime.cri, podSandboxId)
      }
    }
    await create('default', image.config.digest)
    await create('default', `${repository()}:1`)
    await assert.rejects(create('prod', image.config.digest), refused(/team\/app:1" is refused by transports\.docker/))
    await writePolicy(signedBy(other))
    await assert.rejects(create('default', image.config.digest), refused(/pull it again/))
    await writePolicy(signedBy())
    await runtime.kill()
    await runtime.start()
    await create('default', image.config.digest)
    await writePolicy([{ type: 'reject' }])
    await assert.rejects(create('default', image.config.digest), refused(/the policy rejects it/))
  })

  it('may be signed by OpenPGP, with the signature beside the registry', {
    skip: !hasGpg && 'host lacks gpg',
  }, async () => {
    await registry.stop()
    registry = await startRegistry(site.dir)
    const small = makeImage([await makeLayer([{ path: 'a', content: 'b' }])])
    const pushed = await pushImage(registry.url, 'gpg/app', '1', small)
    const name = `${registry.host}/gpg/app:1`
    const file = site.path(`lookaside/gpg/app@${pushed.replace(':', '=')}/signature-1`)
    await writeFile(site.path('places/all.yaml'), `default-docker:\n  lookaside: file://${site.path('lookaside')}\n`)
    const { keyring } = await gpgSign(site.path('gnupg'), name, pushed, file)
    const requirement = { type: 'signedBy', keyType: 'GPGKeys', keyData: keyring.toString('base64') }
    await writePolicy([requirement])
    await runtime.stop()
    const image = {
      signaturePolicy: site.path('policy.json'),
      signaturePlaces: site.path('places'),
      insecureRegistries: [registry.host],
    }
    runtime = await startCricket(site, { sections: { image } })
    assert.equal((await pull(name)).imageRef, small.config.digest)
    await pushImage(registry.url, 'gpg/app', '2', makeImage([await makeLayer([{ path: 'a', content: 'c' }])]))
    await assert.rejects(pull(`${registry.host}/gpg/app:2`), refused(/needs a signature \(signedBy\)/))
  })

  it('needs a policy that can be read: the daemon does not start with another, and says where it is wrong', async () => {
    await runtime.stop()
    await writeFile(site.path('policy.json'), '{"default": [{"type": "sigstoreSigned", "keyPath": "key.pub"}]}')
    assert.deepEqual(await runToEnd(cricketProgram(site), 60_000), { code: 1 })
    assert.match(await runtime.logTail(), /policy\.json" is invalid: default\.0\.keyPath: must be an absolute path/)
    await writePolicy(signedBy())
    await runtime.start()
  })
})
