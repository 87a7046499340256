/** The process of a container's spec. */
import { apparmor } from './apparmor.ts'
import { capabilities } from './capabilities.ts'
import { commandLine, environment, workingDirectory } from './process.ts'
import { oomScoreAdj } from './resources.ts'
import { clampRlimits } from './rlimits.ts'
import { type Context, labelsOf, type Part } from './spec-context.ts'
import type { ContainerSpecInput } from './spec-input.ts'
import type { OciProcess } from './types.ts'
import type { ContainerUser } from './user.ts'

export const containerProcess = (
  input: ContainerSpecInput,
  context: Context,
  user: ContainerUser,
): Part<OciProcess> => {
  const { container, image, host } = input
  const { security, privileged, share } = context
  const oom = oomScoreAdj(container.linux?.resources?.oomScoreAdj ?? 0n, host)
  const armor = apparmor(security, host)
  const { process: selinuxLabel } = labelsOf(input, context)
  const granted = capabilities({ privileged, requested: security?.capabilities, host: host.capabilities })
  const noNewPrivileges = security?.noNewPrivs ?? false
  const rlimits = clampRlimits(input.rlimits ?? [], host.hardLimits)
  const isPointless = noNewPrivileges && (privileged || granted.effective.includes('CAP_SYS_ADMIN'))
  return {
    value: {
      terminal: container.tty,
      user: {
        uid: user.uid,
        gid: user.gid,
        additionalGids: user.supplementalGroups,
        ...(share.umask !== undefined && { umask: share.umask }),
      },
      args: commandLine(container, image),
      env: environment({
        config: container,
        image,
        hostname: input.hostname,
        home: user.home,
        defaults: input.defaultEnv,
        fallbacks: share.env,
      }),
      cwd: workingDirectory(container, image),
      capabilities: granted,
      noNewPrivileges,
      oomScoreAdj: oom.value,
      ...(share.execCPUAffinity && { execCPUAffinity: share.execCPUAffinity }),
      ...(rlimits.length > 0 && { rlimits }),
      ...(armor.profile !== undefined && { apparmorProfile: armor.profile }),
      ...(selinuxLabel !== undefined && { selinuxLabel }),
    },
    warnings: [
      ...oom.warnings,
      ...armor.warnings,
      ...(isPointless ? ['no_new_privs does not confine a container that has CAP_SYS_ADMIN'] : []),
    ],
  }
}
