/** `cricket ops`: asks a running daemon what it is busy with, through the CRI itself (the verbose Status). */
import { Client, credentials, Metadata, type requestCallback } from '@grpc/grpc-js'
import * as z from 'zod'
import { RuntimeError } from '#proto/errors.ts'
import { RuntimeServiceService, type StatusResponse } from '#proto/generated/api.ts'

const Operation = z.looseObject({
  name: z.string().default('PullImage'),
  object: z.string().optional(),
  what: z.string().optional(),
  stage: z.string(),
  startedAtMs: z.number(),
  sinceMs: z.number(),
})

const answerWithinMs = 5_000

/** A table of the operations in flight, oldest first. @throws RuntimeError unavailable when no daemon answers on `socket` */
export async function operationsTable(socket: string): Promise<string> {
  const { info } = await verboseStatus(socket)
  const operations = z.array(Operation).parse(JSON.parse(info.operations ?? '[]'))
  const now = Date.now()
  const rows = operations
    .sort((a, b) => a.startedAtMs - b.startedAtMs)
    .map(({ name, object, what, stage, startedAtMs, sinceMs }) => [
      name,
      stage,
      seconds(now - sinceMs),
      seconds(now - startedAtMs),
      object ?? what ?? '',
    ])
  return table([['OPERATION', 'STAGE', 'FOR', 'IN ALL', 'OBJECT'], ...rows])
}

function verboseStatus(socket: string): Promise<StatusResponse> {
  const client = new Client(`unix://${socket}`, credentials.createInsecure())
  const { path, requestSerialize, responseDeserialize } = RuntimeServiceService.status
  const deadline = Date.now() + answerWithinMs
  return new Promise<StatusResponse>((resolve, reject) => {
    const answered: requestCallback<StatusResponse> = (error, response) => {
      client.close()
      if (response) resolve(response)
      else
        reject(new RuntimeError('unavailable', `No daemon answers on "${socket}": ${error?.details}`, { cause: error }))
    }
    const request = { verbose: true }
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      new Metadata(),
      { deadline },
      answered,
    )
  })
}

const seconds = (ms: number): string => `${(Math.max(ms, 0) / 1000).toFixed(1)}s`

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('')
}
