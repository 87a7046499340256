/** The file mode creation mask that a pod asks for by annotation. */
import { invalid, quoted } from './refuse.ts'

/**
 * @param text octal digits, as umask(1) takes them
 * @returns undefined: the OCI runtime's own, which is 0022
 * @throws RuntimeError invalid-argument
 */
export const umask = (text: string | undefined): number | undefined => {
  if (text === undefined) return undefined
  if (!/^0?[0-7]{1,3}$/.test(text))
    throw invalid(`Annotation for umask: ${quoted(text)} is not an octal mask of 0 to 777`)
  return Number.parseInt(text, 8)
}
