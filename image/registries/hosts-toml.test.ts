import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { isKind } from '#proto/errors.ts'
import { parseReference } from '../reference.ts'
import { planRoute } from './plan-route.ts'
import { EMPTY_CONF, readRegistriesConf } from './registries-conf.ts'
import type { Route } from './route.ts'

/** A certs.d directory with these files, for as long as the test runs. */
class CertsDir implements AsyncDisposable {
  readonly root: string

  private constructor(root: string) {
    this.root = root
  }

  static async make(files: Record<string, string>): Promise<CertsDir> {
    const root = await mkdtemp(join(tmpdir(), 'cricket-certs-'))
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(root, name)), { recursive: true })
      await writeFile(join(root, name), text)
    }
    return new CertsDir(root)
  }

  route(reference: string, roots = [this.root]): Route {
    const sources = { conf: EMPTY_CONF, certsDirs: roots, insecureRegistries: [] }
    return planRoute(sources, parseReference(reference))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true })
  }
}

const bases = ({ endpoints }: Route): string[] => endpoints.map(({ origin, prefix }) => `${origin}${prefix}`)

suite('hosts.toml', () => {
  test('servers in their order, the registry itself last', async () => {
    await using certs = await CertsDir.make({
      'docker.io/hosts.toml': `
        [host."https://z.example"]
          capabilities = ["pull", "resolve"]
        [host."http://10.0.0.5:5000"]
          capabilities = ["pull"]
        [host."a.example:8443/path"]
          capabilities = ["resolve"]
        [host."https://whole.example/api"]
          override_path = true
        [host."https://v2.example/v2/"]
      `,
    })
    const route = certs.route('busybox')
    assert.deepEqual(bases(route), [
      'https://z.example/v2',
      'http://10.0.0.5:5000/v2',
      'https://a.example:8443/path/v2',
      'https://whole.example/api',
      'https://v2.example/v2',
      'https://registry-1.docker.io/v2',
    ])
    assert.deepEqual(
      route.endpoints.map(({ resolvesTags, servesDigests }) => [resolvesTags, servesDigests]),
      [
        [true, true],
        [false, true],
        [true, false],
        [true, true],
        [true, true],
        [true, true],
      ],
    )
    assert.deepEqual(route.endpoints.map(({ isMirror, upstream, name }) => [isMirror, upstream, name]).slice(-2), [
      [true, 'docker.io', 'v2.example'],
      [false, undefined, 'docker.io'],
    ])
    assert.match(route.rule, /docker\.io\/hosts\.toml/)
  })

  test('server replaces the registry, with the settings of the top', async () => {
    await using certs = await CertsDir.make({
      'a.example/hosts.toml': `
        server = "https://b.example"
        capabilities = ["pull", "resolve"]
        skip_verify = true
        dial_timeout = "1m1.5s"
        [header]
          X-One = "1"
          X-Two = ["2", "3"]
      `,
    })
    const [only] = certs.route('a.example/x').endpoints
    assert.equal(only?.origin, 'https://b.example')
    assert.equal(only?.isMirror, true, 'another server than the reference names')
    assert.equal(only?.tls.skipVerify, true)
    assert.equal(only?.dialTimeoutMs, 61_500)
    assert.deepEqual(only?.headers, { 'X-One': '1', 'X-Two': '2, 3' })
  })

  test('server may be the registry itself under its own name', async () => {
    await using certs = await CertsDir.make({ 'docker.io/hosts.toml': 'server = "https://registry-1.docker.io"' })
    const [only] = certs.route('busybox').endpoints
    assert.equal(only?.name, 'docker.io')
    assert.equal(only?.isMirror, false)
  })

  test('certificates, relative to their directory', async () => {
    await using certs = await CertsDir.make({
      'a.example/hosts.toml': `
        [host."https://one.example"]
          ca = "one.crt"
          client = "both.pem"
        [host."https://two.example"]
          ca = ["/abs/two.crt", "more.crt"]
          client = [["two.cert", "two.key"], ["both.pem", ""]]
        [host."https://three.example"]
          client = ["x.pem", "y.pem"]
      `,
    })
    const dir = join(certs.root, 'a.example')
    const [one, two, three] = certs.route('a.example/x').endpoints.map(({ tls }) => tls)
    const both = { cert: `${dir}/both.pem`, key: `${dir}/both.pem` }
    assert.deepEqual(one, { ca: [`${dir}/one.crt`], clients: [both], skipVerify: false })
    assert.deepEqual(two, {
      ca: ['/abs/two.crt', `${dir}/more.crt`],
      clients: [{ cert: `${dir}/two.cert`, key: `${dir}/two.key` }, both],
      skipVerify: false,
    })
    assert.deepEqual(
      three?.clients.map(({ cert, key }) => [cert, key]),
      [
        [`${dir}/x.pem`, `${dir}/x.pem`],
        [`${dir}/y.pem`, `${dir}/y.pem`],
      ],
    )
  })

  test('loopback is plain unless something is said about certificates', async () => {
    await using certs = await CertsDir.make({
      'localhost:5000/hosts.toml': '',
      'localhost:5001/hosts.toml': 'skip_verify = true',
      'localhost:5002/ca.crt': '',
    })
    assert.deepEqual(bases(certs.route('localhost:5000/x')), ['http://localhost:5000/v2'])
    assert.deepEqual(bases(certs.route('localhost:5001/x')), ['https://localhost:5001/v2'])
    assert.deepEqual(bases(certs.route('localhost:5002/x')), ['https://localhost:5002/v2'])
    assert.deepEqual(bases(certs.route('localhost:5003/x')), ['http://localhost:5003/v2'])
  })
})

suite('certs.d directories', () => {
  const named = (name: string) => `[host."https://${name}.example"]\n`

  test('host_port_ before host:port before _default, own ones of any root before any _default', async () => {
    await using first = await CertsDir.make({
      'a.example_5000_/hosts.toml': named('port'),
      'a.example:5000/hosts.toml': named('colon'),
      '_default/hosts.toml': named('default1'),
    })
    await using second = await CertsDir.make({
      'b.example/hosts.toml': named('second'),
      '_default/hosts.toml': named('default2'),
    })
    const roots = [first.root, second.root]
    const mirror = (reference: string) => first.route(reference, roots).endpoints[0]?.name
    assert.equal(mirror('a.example:5000/x'), 'port.example')
    assert.equal(mirror('a.example/x'), 'default1.example')
    assert.equal(mirror('b.example/x'), 'second.example')
  })

  test('_default keeps the registry itself as the last one', async () => {
    await using certs = await CertsDir.make({ '_default/hosts.toml': named('cache') })
    assert.deepEqual(bases(certs.route('quay.io/x')), ['https://cache.example/v2', 'https://quay.io/v2'])
    assert.equal(certs.route('quay.io/x').endpoints[0]?.upstream, 'quay.io')
  })

  test("Docker's layout: crt, cert and key", async () => {
    await using certs = await CertsDir.make({
      'a.example/ca.crt': '',
      'a.example/client.cert': '',
      'a.example/client.key': '',
      'a.example/README': '',
      'b.example/client.cert': '',
      'c.example/client.key': '',
    })
    const dir = join(certs.root, 'a.example')
    assert.deepEqual(certs.route('a.example/x').endpoints[0]?.tls, {
      ca: [`${dir}/ca.crt`],
      clients: [{ cert: `${dir}/client.cert`, key: `${dir}/client.key` }],
      skipVerify: false,
    })
    const bad = (name: string, says: RegExp) =>
      assert.throws(
        () => certs.route(`${name}/x`),
        (error) => isKind(error, 'failed-precondition') && says.test(error.message),
      )
    bad('b.example', /b\.example\/client\.cert": has no key/)
    bad('c.example', /c\.example\/client\.key": has no certificate/)
  })

  test('files beside a hosts.toml belong to what it names', async () => {
    await using certs = await CertsDir.make({ 'a.example/hosts.toml': '', 'a.example/mirror.crt': '' })
    assert.deepEqual(certs.route('a.example/x').endpoints[0]?.tls.ca, [])
  })
})

suite('hosts.toml: what is wrong is said with file, key and value', () => {
  const bad: [text: string, says: RegExp][] = [
    ['[host."ftp://a"]', /a\.example\/hosts\.toml": key "host\.'ftp:\/\/a'"/],
    ['[host."https://a.b"]\ncapabilities = ["fly"]', /key "host\.'https:\/\/a\.b'\.capabilities\[0\]" is "fly"/],
    ['[host."https://a.b"]\ndial_timeout = "soon"', /dial_timeout" is "soon": must be a duration/],
    ['[host."https://a.b"]\nskip_verify = "yes"', /skip_verify" is "yes"/],
    ['[host."https://user:pw@a.b"]', /must be "\[http/],
    ['server = 7', /key "server" is 7/],
    ['[header]\n"Host" = "x"', /header\.Host".*cannot be set/],
    ['server = "https://a.b"\nserver = "https://c.d"', /line 2/],
  ]
  for (const [text, says] of bad) {
    test(text.replaceAll('\n', ' '), async () => {
      await using certs = await CertsDir.make({ 'a.example/hosts.toml': text })
      assert.throws(
        () => certs.route('a.example/x'),
        (error) => (isKind(error, 'failed-precondition') && says.test(error.message)) || assert.fail(String(error)),
      )
    })
  }

  test('the value of a header is not shown', async () => {
    await using certs = await CertsDir.make({ 'a.example/hosts.toml': '[header]\nAuthorization = "sEcReT\\u0007"' })
    assert.throws(
      () => certs.route('a.example/x'),
      (error) => error instanceof Error && !error.message.includes('sEcReT') && error.message.includes('Authorization'),
    )
  })
})

suite('both dialects', () => {
  test('registries.conf decides where a [[registry]] matches, hosts.toml elsewhere', async () => {
    await using certs = await CertsDir.make({
      'registries.conf': '[[registry]]\nlocation = "quay.io/team"\n[[registry.mirror]]\nlocation = "conf.example"',
      'quay.io/hosts.toml': '[host."https://toml.example"]',
    })
    const conf = readRegistriesConf(join(certs.root, 'registries.conf'))
    const plan = (reference: string) =>
      planRoute({ conf, certsDirs: [certs.root], insecureRegistries: [] }, parseReference(reference))
    assert.deepEqual(bases(plan('quay.io/team/x')), ['https://conf.example/v2', 'https://quay.io/v2'])
    assert.deepEqual(plan('quay.io/team/x').passedOver, [`"${certs.root}/quay.io/hosts.toml"`])
    assert.deepEqual(bases(plan('quay.io/other/x')), ['https://toml.example/v2', 'https://quay.io/v2'])
  })

  test('certificates of a host count whoever sends us there', async () => {
    await using certs = await CertsDir.make({
      'registries.conf': '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "m.example:5000"',
      'm.example:5000/ca.crt': '',
    })
    const conf = readRegistriesConf(join(certs.root, 'registries.conf'))
    const { endpoints } = planRoute(
      { conf, certsDirs: [certs.root], insecureRegistries: [] },
      parseReference('quay.io/x'),
    )
    assert.deepEqual(
      endpoints.map(({ tls }) => tls.ca.length),
      [1, 0],
    )
  })
})
