/** The part of the configuration that is about pulling images, as the image module wants it. */
import { type ImagesConfig, proxiesOf } from '#image/images-config.ts'
import type { Config } from './config/schema.ts'

/** Helpers ask cloud services over the network; the kubelet waits for two minutes in all. */
const HELPER_DEADLINE_MS = 30_000

/** Where containers/image, Podman and CRI-O have theirs. */
const USUAL_POLICY = '/etc/containers/policy.json'

/** @param insecureRegistries follows the configuration when that is read again */
export function imagesConfig(
  image: Config['image'],
  insecureRegistries: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ImagesConfig {
  const { registriesConf, certsDirs, authFiles, namespaceAuthDir, shareCredentials, credentialHelperDirs } = image
  const { httpProxy, httpsProxy, noProxy } = image
  return {
    insecureRegistries,
    tokenServices: image.tokenServices,
    registriesConf,
    certsDirs,
    credentials: {
      authFiles,
      namespaceAuthDir,
      shareWithMirrors: shareCredentials,
      helpers: { dirs: credentialHelperDirs, deadlineMs: HELPER_DEADLINE_MS, env },
    },
    parts: { connections: image.layerConnections, fromBytes: image.severalConnectionsFromMiB * 2 ** 20 },
    proxies: {
      ...proxiesOf(env),
      ...(httpProxy !== undefined && { http: httpProxy }),
      ...(httpsProxy !== undefined && { https: httpsProxy }),
      ...(noProxy !== undefined && { no: noProxy }),
    },
    signatures: {
      policyFile: image.signaturePolicy,
      usualPolicyFile: USUAL_POLICY,
      policyDir: image.signaturePolicyDir,
      placesDir: image.signaturePlaces,
      verifiers: { dir: image.verifierDir, most: image.maxVerifiers, deadlineMs: image.verifierTimeoutSeconds * 1000 },
    },
    decryptionKeysDir: image.decryptionKeysDir,
    pinned: image.pinned,
  }
}
