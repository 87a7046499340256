/**
 * `cricket relabel`: the daemon's helper that walks volumes, which may be large, or on a server that does not answer. It
 * reads what to do from standard input, says every second how far it is, and at last what came of it.
 */
import { readFileSync } from 'node:fs'
import * as z from 'zod'
import { isErrno } from '#linux/errno.ts'
import { messageOf } from '#proto/errors.ts'
import { type Labelled, labelTree } from './label-tree.ts'

export const RelabelRequest = z.strictObject({
  trees: z.array(z.strictObject({ path: z.string(), label: z.string(), trustTop: z.boolean() })),
})
export type RelabelRequest = z.infer<typeof RelabelRequest>

const counts = { tree: z.int(), seen: z.int(), changed: z.int() }
/** One line each: how far it is in which tree; the end of a tree; what stopped it. */
export const RelabelReport = z.discriminatedUnion('report', [
  z.object({ report: z.literal('progress'), ...counts }),
  z.object({ report: z.literal('done'), ...counts }),
  z.object({ report: z.literal('failed'), tree: z.int(), message: z.string(), isReadOnly: z.boolean() }),
])
export type RelabelReport = z.infer<typeof RelabelReport>

const EVERY_MS = 1000
/** Files between two looks at the clock. */
const EVERY_FILES = 256

/** @param write takes a line */
export const relabelAll = ({ trees }: RelabelRequest, write: (report: RelabelReport) => void): void => {
  for (const [tree, request] of trees.entries()) {
    let last = performance.now()
    const progress = (done: Labelled): void => {
      if (done.seen % EVERY_FILES !== 0 || performance.now() - last < EVERY_MS) return
      last = performance.now()
      write({ report: 'progress', tree, ...done })
    }
    try {
      write({ report: 'done', tree, ...labelTree(request, progress) })
    } catch (error) {
      write({ report: 'failed', tree, message: messageOf(error), isReadOnly: isErrno(error, 'EROFS') })
      return
    }
  }
}

export const relabelCommand = (): void => {
  const request = RelabelRequest.parse(JSON.parse(readFileSync(0, 'utf8')))
  relabelAll(request, (report) => process.stdout.write(`${JSON.stringify(report)}\n`))
}
