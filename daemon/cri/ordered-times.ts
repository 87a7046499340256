/** Times as the API promises them: a container is created, then started, then finished, also when the node's clock was set back in between. */

export interface Times {
  /** Nanoseconds since 1970. */
  readonly createdAt: bigint
  /** 0 when it has not come to that. */
  readonly startedAt: bigint
  readonly finishedAt: bigint
}

/** Each time that is there no earlier than the one before it. */
export function orderedTimes({ createdAt, startedAt, finishedAt }: Times): Times {
  const started = startedAt === 0n ? 0n : later(startedAt, createdAt)
  return {
    createdAt,
    startedAt: started,
    finishedAt: finishedAt === 0n ? 0n : later(finishedAt, later(started, createdAt)),
  }
}

const later = (a: bigint, b: bigint): bigint => (a > b ? a : b)
