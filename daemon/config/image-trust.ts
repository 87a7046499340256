/** The keys of `image` that are about which images may come here and run, and about those that are encrypted. */
import * as z from 'zod'
import { absolutePath } from './fields.ts'

export const imageTrust = {
  signaturePolicy: absolutePath()
    .optional()
    .describe(
      'Who must have signed images, in the format of containers-policy.json. Not set: /etc/containers/policy.json if it is there, otherwise everything is accepted. A broken one keeps the daemon from starting; changes are noticed. See images.md.',
    ),
  signaturePolicyDir: absolutePath()
    .optional()
    .describe(
      'A directory with `<namespace>.json`, a policy in place of `signaturePolicy` for the pods of that Kubernetes namespace. Not set: none.',
    ),
  signaturePlaces: absolutePath()
    .default('/etc/containers/registries.d')
    .describe(
      'Where OpenPGP signatures lie, in the format of containers-registries.d: the files `*.yaml` of this directory. May be absent; read for each pull that needs signatures.',
    ),
  verifierDir: absolutePath()
    .optional()
    .describe(
      "A directory of programs each of which must agree before an image is pulled, called as containerd's image verifiers are. Not set: none.",
    ),
  maxVerifiers: z
    .int()
    .min(1)
    .max(100)
    .default(10)
    .describe('How many programs `verifierDir` may hold; with more, nothing is pulled.'),
  verifierTimeoutSeconds: z
    .int()
    .min(1)
    .max(600)
    .default(10)
    .describe('How long each of them may take before the pull is refused.'),
  decryptionKeysDir: absolutePath()
    .default('/etc/cricket/keys')
    .describe(
      'Private keys for encrypted layers, one file each (PEM, DER or JWK; RSA or EC). May be absent; read for each pull that needs them.',
    ),
  pinned: z
    .array(z.string().min(1).max(512))
    .default([])
    .describe(
      'Images that the kubelet never removes to make room, by repository, name with tag or digest; "*" stands for any characters, as in "registry.example/base/*".',
    ),
}
