/** docs/images.md, run: its examples are what an operator copies, so each is read by what reads it on a node. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { explainReference } from '#image/explain.ts'
import type { ImagesConfig } from '#image/images-config.ts'
import { requirementsFor } from '#image/policy/match-scope.ts'
import { readPolicy } from '#image/policy/read-policy.ts'
import { parseReference } from '#image/reference.ts'
import { signaturePlaces } from '#image/signatures/registries-d.ts'
import { Authority, hasOpenssl } from '#image/testing/certificates.ts'
import { Gpg, hasGpg } from '#image/testing/gpg.ts'
import { makeKey } from '#image/testing/signer.ts'
import { defaultConfig, loadConfig } from './config/load.ts'
import type { Config } from './config/schema.ts'
import { imagesConfig } from './images-config.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/images.md'), 'utf8')

/** The indented examples below a heading, in order, without their indentation. */
const examples = (heading: string): string[] => {
  const [, below = assert.fail(`no heading "${heading}"`)] = page.split(new RegExp(`^#+ ${heading}\\n`, 'm'))
  const [section = ''] = below.split(/^#+ /m)
  const blocks = section.match(/(^ {4}.*\n|^\n(?= {4}))+/gm) ?? []
  return blocks.map((block) => block.replaceAll(/^ {4}/gm, '').trim())
}

const example = (heading: string, begins: string | RegExp): string =>
  examples(heading).find((text) => (typeof begins === 'string' ? text.startsWith(begins) : begins.test(text))) ??
  assert.fail(`no example under "${heading}" begins with ${begins}`)

/** A node whose /etc is a directory of its own. */
class Node implements AsyncDisposable {
  readonly root: string
  private constructor(root: string) {
    this.root = root
  }

  static async with(files: Record<string, string | Buffer>): Promise<Node> {
    const node = new Node(await mkdtemp(join(tmpdir(), 'cricket-page-')))
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(node.root, name)), { recursive: true })
      await writeFile(join(node.root, name), content)
    }
    return node
  }

  config(image: object = {}): ImagesConfig {
    const at = (name: string): string => join(this.root, 'etc', name)
    const ours: Partial<Config['image']> = {
      registriesConf: at('containers/registries.conf'),
      certsDirs: ['cricket', 'containerd', 'containers', 'docker'].map((name) => at(`${name}/certs.d`)),
      authFiles: [at('cricket/auth.json')],
      namespaceAuthDir: at('cricket/auth.d'),
      signaturePlaces: at('containers/registries.d'),
      ...image,
    }
    const config = imagesConfig({ ...defaultConfig().image, ...ours }, [], {})
    return { ...config, signatures: { ...config.signatures, usualPolicyFile: undefined } }
  }

  explain(reference: string, namespace?: string, image: object = {}): string {
    return explainReference(this.config(image), reference, namespace).replaceAll(`${this.root}/`, '/').trim()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true })
  }
}

const auths = (...names: string[]): string =>
  JSON.stringify({ auths: Object.fromEntries(names.map((name) => [name, { auth: btoa('u:p') }])) })

/** "1. https://…" → "https://…" */
const servers = (explained: string): string[] => explained.match(/(?<=^ {2}\d\. ).*/gm) ?? []

suite('docs/images.md', { skip: !hasOpenssl() && 'host lacks openssl' }, () => {
  test('shows what explain says', async () => {
    await using authority = await Authority.make()
    await using node = await Node.with({
      'etc/containers/registries.conf':
        '[[registry]]\nlocation = "quay.io/team"\n[[registry.mirror]]\nlocation = "mirror.example:5000/cache"',
      'etc/containerd/certs.d/quay.io/hosts.toml': 'server = "https://quay.io"',
      'etc/docker/certs.d/mirror.example:5000/ca.crt': authority.cert,
      'etc/cricket/auth.json': auths('mirror.example:5000'),
      'etc/cricket/auth.d/blue.json': auths('quay.io'),
    })
    const [command, ...said] = example('See what would happen', '# cricket image explain').split('\n')
    const [reference = '', namespace] = (command ?? '').split(' ').slice(4)
    assert.equal(node.explain(reference, namespace), said.join('\n'))
  })

  test('has a registries.conf that means what its comments say', async () => {
    const conf = example('registries.conf', 'unqualified-search')
    await using node = await Node.with({ 'etc/containers/registries.conf': conf })
    const at = (reference: string): string[] => servers(node.explain(reference))
    const digest = `sha256:${'a'.repeat(64)}`
    assert.deepEqual(at('app:1'), ['https://registry.example/v2/team/app'])
    assert.deepEqual(at('other:1'), ['https://registry.example/v2/other'])
    assert.deepEqual(at('docker.io/library/x:1'), ['https://registry-1.docker.io/v2/library/x'])
    assert.deepEqual(at(`docker.io/library/x@${digest}`), [
      'https://mirror.example:5000/v2/hub/library/x',
      'https://registry-1.docker.io/v2/library/x',
    ])
    assert.deepEqual(at('quay.io/team/app'), ['https://harbor.example/v2/team/app'])
    assert.deepEqual(at('quay.io/other/app'), ['https://quay.io/v2/other/app'])
    assert.deepEqual(at('a.corp.example/x'), ['https://a.corp.example/v2/x', 'http://a.corp.example/v2/x'])
    assert.throws(() => at('evil.example/x'), /is blocked/)
    assert.doesNotMatch(node.explain('app:1'), /warning/)
  })

  test('has a hosts.toml that means what its comments say', async () => {
    await using authority = await Authority.make()
    const { cert, key } = await authority.issue('node')
    const dir = 'etc/containerd/certs.d/docker.io'
    await using node = await Node.with({
      [`${dir}/hosts.toml`]: example('hosts.toml', '# /etc/containerd/certs.d/docker.io/hosts.toml'),
      [`${dir}/mirror.crt`]: authority.cert,
      [`${dir}/node.cert`]: cert,
      [`${dir}/node.key`]: key,
    })
    const said = node.explain('docker.io/library/x:1')
    assert.deepEqual(servers(said), [
      'https://mirror.example:5000/v2/library/x',
      'https://proxy.example/artifactory/api/docker/hub/library/x',
      'https://registry-1.docker.io/v2/library/x',
    ])
    const mirror = `mirror, authority "/${dir}/mirror.crt", client certificate "/${dir}/node.cert", headers X-Site`
    assert.ok(said.includes(`${mirror}, ?ns=docker.io`), said)
    assert.match(said, /mirror, any certificate is good, \?ns=docker\.io/)
    assert.doesNotMatch(said, /berlin|warning/)
  })

  test("names the files of Docker's layout", async () => {
    await using authority = await Authority.make()
    const { cert, key } = await authority.issue('node')
    const contents: Record<string, string> = { 'ca.crt': authority.cert, 'node.cert': cert, 'node.key': key }
    const text = example("Certificates in Docker's layout", '/etc/docker')
    const [first = ''] = text.split(/\s/)
    const named = text.match(/[\w.]+\.(?:crt|cert|key)/g) ?? []
    assert.deepEqual(new Set(named.map((name) => name.split('/').at(-1))), new Set(Object.keys(contents)))
    const files = Object.entries(contents).map(([name, content]) => [join(dirname(first), name).slice(1), content])
    await using node = await Node.with(Object.fromEntries(files))
    assert.match(node.explain('registry.example:5000/x'), /authority ".*ca\.crt", client certificate ".*node\.cert"/)
  })

  test('has pieces of config.yaml that the daemon takes', async () => {
    const pieces = page.match(/^ {4}image:\n(^ {6}.*\n)+/gm) ?? []
    assert.equal(pieces.length, (page.match(/^ {4}image:$/gm) ?? []).length)
    assert.ok(pieces.length >= 3)
    for (const piece of pieces) {
      await using node = await Node.with({ 'config.yaml': piece.replaceAll(/^ {4}/gm, '') })
      loadConfig({ file: join(node.root, 'config.yaml') })
    }
    const shares = { shareCredentials: { 'docker.io': ['mirror.example:5000'] } }
    await using node = await Node.with({
      'etc/containerd/certs.d/docker.io/hosts.toml': '[host."https://mirror.example:5000"]',
    })
    assert.match(node.explain('busybox', undefined, shares), /ns=docker\.io\n +credentials: the pod's pull secret/)
  })

  test('has a file of registries.d', async () => {
    await using node = await Node.with({ 'all.yaml': example('Signatures', 'docker:') })
    const places = (name: string) => signaturePlaces(node.root, parseReference(name))
    assert.equal(places('registry.access.redhat.com/ubi:9').lookaside?.href, 'https://signatures.example/redhat')
    assert.ok(places('registry.access.redhat.com/ubi:9').useAttachments)
    assert.ok(!places('quay.io/team/app').useAttachments)
    assert.ok(places('quay.io/other/app').useAttachments)
  })

  test('has a signature policy', { skip: !hasGpg() && 'host lacks gpg' }, async () => {
    await using authority = await Authority.make()
    await using gpg = await Gpg.make()
    await gpg.addKey('one@example.test')
    const { pem } = makeKey()
    const text = example('Signatures', '{')
    const files: Record<string, string | Buffer> = {}
    for (const [, path = ''] of text.matchAll(/Path": "([^"]+)"/g)) {
      const isGpg = path.includes('gpg')
      files[path.slice(1)] = isGpg
        ? await gpg.exportKey('one@example.test', { armor: true })
        : path.endsWith('.pem')
          ? authority.cert
          : pem
    }
    await using node = await Node.with(files)
    const file = join(node.root, 'policy.json')
    await writeFile(file, text.replaceAll(/Path": "/g, `Path": "${node.root}`))
    const policy = readPolicy(file)
    const wants = (name: string): string[] =>
      requirementsFor(policy, parseReference(name)).requirements.map(({ type }) => type)
    assert.deepEqual(wants('registry.k8s.io/pause:3'), ['insecureAcceptAnything'])
    assert.deepEqual(wants('a.corp.example/x'), ['sigstoreSigned'])
    assert.deepEqual(wants('quay.io/team/app'), ['sigstoreSigned'])
    assert.deepEqual(wants('registry.access.redhat.com/ubi'), ['signedBy'])
    assert.deepEqual(wants('docker.io/library/x'), ['reject'])
  })
})
