/**
 * The configuration document of an image: how to run it and the diff ids of its layers. Its digest is the image id.
 * Values are typed and bounded here; what they mean (is this user known, is this signal real) is decided where a
 * container is made.
 */

import * as z from 'zod'
import type { DiffId } from '#storage/digest.ts'
import { diffIdField } from './digest-field.ts'
import { check } from './manifest.ts'
import { parseStrictJson } from './strict-json.ts'

const text = z.string().refine((value) => !value.includes('\0'), 'has a NUL character')
const texts = z.array(text).max(65_536)

/** Go writes null where it means nothing. */
const orNothing = <T extends z.ZodType>(field: T) => field.nullish()

const names = z.record(text, z.unknown())

const execution = z.object({
  User: orNothing(text),
  Env: orNothing(texts),
  Entrypoint: orNothing(texts),
  Cmd: orNothing(texts),
  WorkingDir: orNothing(text),
  StopSignal: orNothing(text),
  Labels: orNothing(z.record(text, text)),
  Volumes: orNothing(names),
  ExposedPorts: orNothing(names),
})

const document = z.object({
  architecture: orNothing(z.string().max(64)),
  os: orNothing(z.string().max(64)),
  created: orNothing(z.string().max(64)),
  config: orNothing(execution),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: orNothing(z.array(diffIdField)) }),
})

/** How the image wants to be run; empty strings and lists where it does not say. Kept in the image record. */
export const imageConfigField = z.object({
  user: z.string(),
  env: z.array(z.string()),
  entrypoint: z.array(z.string()),
  cmd: z.array(z.string()),
  workingDir: z.string(),
  stopSignal: z.string(),
  labels: z.record(z.string(), z.string()),
  volumes: z.array(z.string()),
  exposedPorts: z.array(z.string()),
  architecture: z.string(),
  os: z.string(),
  /** As the image says it, RFC 3339 if it is honest; never used for decisions. */
  created: z.string().optional(),
})

export type ImageConfig = z.infer<typeof imageConfigField>

/**
 * @returns the configuration and the diff ids, bottom first
 * @throws RuntimeError failed-precondition
 */
export const parseImageConfig = (bytes: Uint8Array, what: string): { config: ImageConfig; diffIds: DiffId[] } => {
  const { rootfs, config: execution, ...about } = check(document, parseStrictJson(bytes, what), what)
  return {
    diffIds: rootfs.diff_ids ?? [],
    config: {
      user: execution?.User ?? '',
      env: execution?.Env ?? [],
      entrypoint: execution?.Entrypoint ?? [],
      cmd: execution?.Cmd ?? [],
      workingDir: execution?.WorkingDir ?? '',
      stopSignal: execution?.StopSignal ?? '',
      labels: execution?.Labels ?? {},
      volumes: Object.keys(execution?.Volumes ?? {}),
      exposedPorts: Object.keys(execution?.ExposedPorts ?? {}),
      architecture: about.architecture ?? '',
      os: about.os ?? '',
      ...(about.created && { created: about.created }),
    },
  }
}
