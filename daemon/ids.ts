/** Ids of sandboxes and containers: how they are minted, and what a caller may write for one. */
import { randomBytes } from 'node:crypto'
import * as z from 'zod'

const fullId = z.string().regex(/^[0-9a-f]{64}$/)

/** 64 lower-case hex digits; unique for ever, never reused (the kubelet embeds it in log file names). */
export const SandboxId = fullId.brand<'SandboxId'>()
export type SandboxId = z.infer<typeof SandboxId>

/** 64 lower-case hex digits; unique for ever, never reused. */
export const ContainerId = fullId.brand<'ContainerId'>()
export type ContainerId = z.infer<typeof ContainerId>

const mint = (): string => randomBytes(32).toString('hex')

export const mintSandboxId = (): SandboxId => SandboxId.parse(mint())
export const mintContainerId = (): ContainerId => ContainerId.parse(mint())
