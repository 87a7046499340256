/** The isolation of processors on this host. */
import type { Linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Config } from '../config/schema.ts'
import type { Paths } from '../paths.ts'
import { CpuIsolation } from './cpu-isolation.ts'

const SYSTEMCTL_MS = 10_000

export function openIsolation(config: Config, paths: Paths, linux: Linux, log: Log): CpuIsolation {
  return new CpuIsolation({
    roots: { irq: '/proc/irq', cpus: '/sys/devices/system/cpu' },
    irqbalanceConfig: config.cpuIsolation.irqbalanceConfig,
    originalsFile: paths.cpuIsolation,
    bootId: linux.bootId(),
    cgroupVersion: linux.probeHost().cgroup.version === 2 ? 2 : 1,
    log,
    restartIrqbalance: async () => {
      // Only when it runs.
      const { exit } = await linux.runCommand('systemctl', ['try-restart', 'irqbalance.service'], {
        timeoutMs: SYSTEMCTL_MS,
      })
      if (exit.how !== 'exited' || exit.code !== 0) throw new RuntimeError('failed-precondition', 'systemctl failed')
    },
  })
}
