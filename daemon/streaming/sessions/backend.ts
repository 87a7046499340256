/** What stands behind the streaming server: commands, attachments and connections of this node's pods. */
import type { StreamBackend } from '../session.ts'
import { type AttachNeeds, attach } from './attach.ts'
import { type ExecNeeds, exec } from './exec.ts'
import { connect, type ForwardNeeds } from './port-forward.ts'

export const streamBackend = (needs: ExecNeeds & AttachNeeds & ForwardNeeds): StreamBackend => ({
  exec: (request, streams, signal) => exec(needs, request, streams, signal),
  attach: (request, streams, signal) => attach(needs, request, streams, signal),
  connect: (sandboxId, port, signal) => connect(needs, sandboxId, port, signal),
})
