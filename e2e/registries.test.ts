/** Pulls against Debian's docker-registry as clusters have it: TLS by an authority of their own, a login, a mirror. */

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { CRICKET, startCricket } from './cricket.ts'
import { imageSpec } from './image-spec.ts'
import { busyboxImage, type OciImage, pushImage } from './oci-image.ts'
import { login, type Registry, startRegistry } from './registry.ts'
import type { Runtime } from './runtime.ts'
import { createSite, removeSite, type Site } from './site.ts'

const run = promisify(execFile)

suite('pull from', { skip: !existsSync('/usr/bin/openssl') && 'host lacks openssl' }, () => {
  let site: Site
  let secure: Registry
  let mirror: Registry
  let runtime: Runtime
  let image: OciImage

  before(async () => {
    site = await createSite()
    image = await busyboxImage()
    const tls = makeCertificate(site)
    await mkdir(site.path('secure'))
    await mkdir(site.path('mirror'))
    // Pushed in the clear, then served by TLS from the same files.
    const open = await startRegistry(site.path('secure'))
    await pushImage(open.url, 'team/app', '1', image)
    await open.stop()
    secure = await startRegistry(site.path('secure'), { tls, withLogin: true })
    mirror = await startRegistry(site.path('mirror'))
    await pushImage(mirror.url, 'cache/team/app', '1', image)
    runtime = await startCricket(site, {
      sections: {
        image: {
          registriesConf: site.path('registries.conf'),
          certsDirs: [site.path('certs.d')],
          authFiles: [site.path('auth.json')],
        },
      },
    })
  })
  after(async () => {
    await runtime?.stop()
    for (const registry of [secure, mirror]) await registry?.stop()
    await removeSite(site)
  })

  const file = async (name: string, text: string): Promise<void> => {
    await mkdir(dirname(site.path(name)), { recursive: true })
    await writeFile(site.path(name), text)
  }
  const reference = () => `${secure.host}/team/app:1`
  const pull = async (auth?: { username: string; password: string }) => {
    const { imageRef } = await runtime.cri.images.pullImage({
      image: imageSpec(reference()),
      ...(auth && { auth: { ...NO_AUTH, ...auth } }),
    })
    assert.equal(imageRef, image.config.digest)
    await runtime.cri.images.removeImage({ image: imageSpec(imageRef) })
  }
  const explain = async (): Promise<string> =>
    (await run(CRICKET, ['image', 'explain', reference(), '--config', site.path('config.yaml')])).stdout

  test('a registry whose authority nobody knows fails, and works once its authority lies in certs.d', async () => {
    await file(`certs.d/${secure.host}/other.cert.txt`, '')
    await file(`certs.d/${secure.host}/hosts.toml`, `server = "https://${secure.host}"`)
    await assert.rejects(pull(login), /RegistryUnavailable/)
    await file(`certs.d/${secure.host}/hosts.toml`, `server = "https://${secure.host}"\nca = "${site.path('ca.crt')}"`)
    await pull(login)
    await assert.rejects(pull({ ...login, password: 'wrong' }), /PERMISSION_DENIED/)
    await assert.rejects(pull(), /PERMISSION_DENIED/)
    assert.match(
      await explain(),
      new RegExp(`1\\. https://${secure.host}/v2/team/app\n +registry, authority ".*ca\\.crt"`),
    )
  })

  test("the node's credentials serve pods without a pull secret", async () => {
    const auth = Buffer.from(`${login.username}:${login.password}`).toString('base64')
    await file('auth.json', JSON.stringify({ auths: { [`${secure.host}/team`]: { auth } } }))
    await pull()
    const told = await explain()
    assert.match(told, new RegExp(`entry "${secure.host}/team" of ".*auth\\.json"`))
    assert.ok(!told.includes(auth) && !told.includes(login.password))
    await file('auth.json', '{}')
  })

  test('a mirror by hosts.toml, which is enough without the registry', async () => {
    await file(
      `certs.d/${secure.host}/hosts.toml`,
      `server = "https://${secure.host}"\nca = "${site.path('ca.crt')}"\n[host."http://${mirror.host}/v2/cache"]\noverride_path = true`,
    )
    await pull()
  })

  test('a mirror by registries.conf with another path; without it the registry by TLS and login', async () => {
    await file(`certs.d/${secure.host}/hosts.toml`, '')
    const mirrored = `[[registry.mirror]]\nlocation = "${mirror.host}/cache"\ninsecure = true\n`
    await file('registries.conf', `[[registry]]\nlocation = "${secure.host}"\n${mirrored}`)
    await pull()
    const told = await explain()
    assert.match(told, new RegExp(`1\\. http://${mirror.host}/v2/cache/team/app`))
    assert.match(told, new RegExp(`2\\. https://${secure.host}/v2/team/app`))
    await mirror.stop()
    await assert.rejects(pull(login), /RegistryUnavailable/)
    // Docker's layout: the directory has no hosts.toml any more.
    execFileSync('rm', ['-r', site.path('certs.d', secure.host)])
    await file(`certs.d/${secure.host}/ca.crt`, execFileSync('cat', [site.path('ca.crt')], { encoding: 'utf8' }))
    await pull(login)
  })

  test('nobody when it is blocked; a broken file changes nothing and is told in the status', async () => {
    await file('registries.conf', `[[registry]]\nlocation = "${secure.host}"\nblocked = true`)
    await assert.rejects(pull(login), /PERMISSION_DENIED.*is blocked/)
    await file('registries.conf', '[[registry]]\nlocation = 7')
    await assert.rejects(pull(login), /PERMISSION_DENIED.*is blocked/)
    const { info } = await runtime.cri.runtime.status({ verbose: true })
    assert.match(info.registries ?? '', /registries\.conf.*location.* is 7/)
    await file('registries.conf', '')
    await pull(login)
  })
})

const NO_AUTH = { username: '', password: '', auth: '', serverAddress: '', identityToken: '', registryToken: '' }

/** An authority, and a certificate of it for loopback. */
function makeCertificate(site: Site): { certFile: string; keyFile: string } {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe', cwd: site.dir })
  openssl('req', '-x509', ...key, '-days', '2', '-subj', '/CN=e2e', '-keyout', 'ca.key', '-out', 'ca.crt')
  openssl('req', ...key, '-subj', '/CN=registry', '-keyout', 'tls.key', '-out', 'tls.csr')
  execFileSync('sh', ['-c', 'echo subjectAltName=IP:127.0.0.1 > tls.ext'], { cwd: site.dir })
  const by = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial']
  openssl('x509', '-req', '-in', 'tls.csr', ...by, '-days', '2', '-extfile', 'tls.ext', '-out', 'tls.crt')
  return { certFile: site.path('tls.crt'), keyFile: site.path('tls.key') }
}
