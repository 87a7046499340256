/** The one place that chooses between pipes and a terminal. */
import type { MonitorOptions } from '#proto/conmon.ts'
import type { Reactor } from '../reactor.ts'
import { PipeStdio } from './pipes.ts'
import type { ContainerStdio, Output } from './stdio.ts'
import { TerminalStdio } from './terminal.ts'

export const openStdio = (options: MonitorOptions, dir: string, reactor: Reactor, output: Output): ContainerStdio =>
  options.terminal
    ? new TerminalStdio(reactor, output, dir)
    : new PipeStdio(reactor, output, { withInput: options.stdin, runsAtOnce: options.restore !== undefined })
