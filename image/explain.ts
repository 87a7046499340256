/**
 * What a pull of a reference would do, in words: which rule speaks, which servers are asked in which order, and whose
 * credentials each of them would get. Reads configuration only; asks no server, runs no helper, shows no secret.
 */

import { silentLog } from '#proto/log.ts'
import { credentialPlaces, isForPodsSecret } from './credentials/find-credentials.ts'
import type { ImagesConfig } from './images-config.ts'
import { requirementsFor } from './policy/match-scope.ts'
import { policiesOf } from './policy/policies.ts'
import { canonical, type ImageReference } from './reference.ts'
import { Registries } from './registries/registries.ts'
import type { Endpoint } from './registries/route.ts'
import { readConnection } from './registry/connections.ts'
import { proxyFor } from './registry/proxies.ts'

/**
 * Several lines, each ended.
 * @throws RuntimeError what a pull would throw before it asks anybody: not a name, ambiguous, blocked, broken configuration
 */
export const explainReference = (config: ImagesConfig, written: string, namespace?: string): string => {
  const { registriesConf: confFile, certsDirs, insecureRegistries } = config
  const registries = new Registries({ confFile, certsDirs, insecureRegistries, log: silentLog })
  const { references, by } = registries.candidates(written)
  const asker = { written, ...(namespace !== undefined && { namespace }) }
  const parts = references.map((reference) => explainOne(config, registries, reference, asker))
  const warnings = registries.state().warnings.map((warning) => `warning: ${warning}\n`)
  return [by === undefined ? '' : `short name, completed by: ${by}\n`, ...parts, ...warnings].join('')
}

interface Asker {
  readonly written: string
  readonly namespace?: string
}

const explainOne = (config: ImagesConfig, registries: Registries, reference: ImageReference, asker: Asker): string => {
  const { rule, endpoints, passedOver } = registries.route(reference)
  const lines = [
    canonical(reference),
    `  rule: ${rule}`,
    ...wanted(config, reference, asker).map((line) => `  signatures: ${line}`),
    ...passedOver.map((file) => `  not heard: ${file}`),
    ...endpoints.flatMap((endpoint, index) => {
      const [first, ...more] = describe(config, registries, reference, endpoint, asker)
      return [`  ${index + 1}. ${first}`, ...more.map((line) => `     ${line}`)]
    }),
  ]
  return lines.map((line) => `${line}\n`).join('')
}

/** What the signature policy wants of the image; nothing when it takes any. @throws RuntimeError when the policy is broken */
const wanted = ({ signatures }: ImagesConfig, reference: ImageReference, { namespace }: Asker): string[] => {
  const { policy } = policiesOf(signatures, silentLog).for(namespace)
  const { scope, requirements } = requirementsFor(policy, reference)
  const types = requirements.map(({ type }) => type).filter((type) => type !== 'insecureAcceptAnything')
  return types.length === 0 ? [] : [`${types.join(' and ')}, by ${scope} of "${policy.files[0]}"`]
}

const describe = (
  config: ImagesConfig,
  registries: Registries,
  reference: ImageReference,
  endpoint: Endpoint,
  asker: Asker,
): string[] => {
  const { origin, prefix, repository, isMirror, isPlainTwin, upstream, headers, tls } = endpoint
  // Says now what a pull would say: a certificate that cannot be read.
  readConnection(tls)
  const proxy = proxyFor(new URL(origin), config.proxies)
  const names = Object.keys(headers)
  const facts = [
    isMirror ? 'mirror' : 'registry',
    ...(isPlainTwin ? ['only if the one before speaks no TLS'] : []),
    ...(serves(endpoint) ? [`for ${serves(endpoint)} only`] : []),
    ...(tls.skipVerify ? ['any certificate is good'] : []),
    ...tls.ca.map((file) => `authority "${file}"`),
    ...tls.clients.map(({ cert }) => `client certificate "${cert}"`),
    ...(names.length > 0 ? [`headers ${names.join(', ')}`] : []),
    ...(upstream === undefined ? [] : [`?ns=${upstream}`]),
    ...(proxy === undefined ? [] : [`proxy ${new URL(proxy).host}`]),
  ]
  const question = {
    ...asker,
    server: endpoint.name,
    repository,
    reference,
    configuredHelpers: registries.conf().credentialHelpers,
  }
  const places = credentialPlaces(config.credentials, question).map(({ from }) => from)
  const pods = isForPodsSecret(config.credentials, question) ? ["the pod's pull secret if it has one"] : []
  const credentials = [...pods, ...places].join(', then ') || "none; the pod's pull secret is not shown to it"
  return [`${origin}${prefix}/${repository}`, facts.join(', '), `credentials: ${credentials}`]
}

const serves = ({ resolvesTags, servesDigests }: Endpoint): string | undefined => {
  if (resolvesTags && servesDigests) return undefined
  if (resolvesTags) return 'what a tag means'
  return servesDigests ? 'content by digest' : 'nothing that a pull needs'
}
