/** Signatures that another program makes: Debian's skopeo, beside Debian's docker-registry. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { isKind } from '#proto/errors.ts'
import { DockerRegistry, hasDockerRegistry } from '../testing/docker-registry.ts'
import { Gpg, hasGpg } from '../testing/gpg.ts'
import { buildImage, buildLayer } from '../testing/image-builder.ts'
import { TestImages, testConfig } from '../testing/test-images.ts'

const SKOPEO = '/usr/bin/skopeo'
const run = promisify(execFile)
const lacks = [existsSync(SKOPEO) || 'skopeo', hasGpg() || 'gpg', hasDockerRegistry() || 'docker-registry']
  .filter((each) => each !== true)
  .join(', ')

suite('an image that skopeo signs while it copies', { skip: lacks !== '' && `host lacks ${lacks}` }, () => {
  test('comes by the key that signed it, by tag and by digest, and by no other', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'cricket-skopeo-'))
    try {
      await using registry = await DockerRegistry.start()
      await using gpg = await Gpg.make()
      for (const who of ['one', 'two']) {
        await gpg.addKey(`${who}@example.test`)
        await writeFile(join(dir, `${who}.asc`), await gpg.exportKey(`${who}@example.test`, { armor: true }))
      }
      const image = buildImage({ layers: [await buildLayer({ a: 'b' })] })
      await registry.push('unsigned', image, 'v1')
      await mkdir(join(dir, 'places'))
      const places = `docker:\n  ${registry.host}:\n    lookaside: file://${dir}/lookaside\n`
      await writeFile(join(dir, 'places/all.yaml'), places)
      await writeFile(join(dir, 'accept.json'), '{"default":[{"type":"insecureAcceptAnything"}]}')
      const here = ['--policy', join(dir, 'accept.json'), '--registries.d', join(dir, 'places')]
      const plain = ['--src-tls-verify=false', '--dest-tls-verify=false']
      const [from, to] = ['unsigned', 'signed'].map((name) => `docker://${registry.host}/${name}:v1`)
      const copy = [...here, 'copy', ...plain, '--sign-by', 'one@example.test', from ?? '', to ?? '']
      await run(SKOPEO, copy, { env: { PATH: '/usr/bin:/bin', HOME: dir, GNUPGHOME: gpg.home }, timeout: 120_000 })

      const pull = async (who: string, name: string): Promise<string> => {
        const policyFile = join(dir, `${who}.json`)
        const wants = { type: 'signedBy', keyType: 'GPGKeys', keyPath: join(dir, `${who}.asc`) }
        await writeFile(policyFile, JSON.stringify({ default: [wants] }))
        const signatures = { ...testConfig.signatures, policyFile, placesDir: join(dir, 'places') }
        await using images = await TestImages.open({ config: { signatures } })
        return (await images.images.pull({ reference: `${registry.host}/${name}` })).id
      }
      for (const name of ['signed:v1', `signed@${image.digest}`]) assert.equal(await pull('one', name), image.id)
      for (const [who, name] of [
        ['two', 'signed:v1'],
        ['one', 'unsigned:v1'],
      ] as const) {
        await assert.rejects(pull(who, name), (error) => isKind(error, 'signature-validation-failed'))
      }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})
