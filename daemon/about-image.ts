/** `cricket image …`: what operators ask about images, and how they bring some without a registry. */
import { RuntimeError } from '#proto/errors.ts'
import type { CommandLine } from './config/flags.ts'

const USAGE = `Usage:
  cricket image explain REFERENCE [NAMESPACE]
  cricket image load FILE [--name NAME] [--pin]`

/**
 * @param line whose words behind "image" are "explain", the reference, and maybe the namespace of a pod; or "load" and a file
 * @returns the text to print
 * @throws RuntimeError invalid-argument when the words are others; what a pull would throw before it asks a server
 */
export async function aboutImage(line: CommandLine): Promise<string> {
  const [word, subject, namespace] = line.positionals
  if (subject === undefined) throw new RuntimeError('invalid-argument', USAGE)
  if (word === 'load' && namespace === undefined)
    return (await import('./image-load/load-command.ts')).loadCommand(line, subject)
  const isOther = line.switches.size > 0 || Object.keys(line.values).length > 0
  if (word !== 'explain' || isOther) throw new RuntimeError('invalid-argument', USAGE)
  return explain(subject, namespace, line.flags)
}

/** Loaded apart: it knows registries, which loading does not need. */
async function explain(subject: string, namespace: string | undefined, flags: CommandLine['flags']): Promise<string> {
  const { explainReference } = await import('#image/explain.ts')
  const { loadConfig } = await import('./config/load.ts')
  const { imagesConfig } = await import('./images-config.ts')
  const { image } = loadConfig({ flags })
  return explainReference(imagesConfig(image, image.insecureRegistries, process.env), subject, namespace)
}
