/** `cricket image …`: what operators ask about images; needs no running daemon. */
import { explainReference } from '#image/explain.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Flags } from './config/flags.ts'
import { loadConfig } from './config/load.ts'
import { imagesConfig } from './images-config.ts'

/**
 * @param words behind "image": "explain", the reference, and maybe the namespace of a pod
 * @returns the text to print
 * @throws RuntimeError invalid-argument when the words are others; what a pull would throw before it asks a server
 */
export function aboutImage(flags: Flags, [word, reference, namespace]: readonly string[]): string {
  if (word !== 'explain' || reference === undefined)
    throw new RuntimeError('invalid-argument', 'Usage: cricket image explain REFERENCE [NAMESPACE]')
  const { image } = loadConfig({ flags })
  return explainReference(imagesConfig(image, image.insecureRegistries, process.env), reference, namespace)
}
