/** Whether two requests ask for the same. */
import { isDeepStrictEqual } from 'node:util'

/** Equality of decoded CRI messages, field by field, whatever order their maps came in. */
export const sameConfig = (a: object, b: object): boolean => isDeepStrictEqual(a, b)
