/** The configuration of the Node Resource Interface. docs/nri.md tells what it is for. */
import * as z from 'zod'
import { absolutePath, section, socketPath } from './fields.ts'

const rejection = (what: string) =>
  z.boolean().default(false).describe(`Refuse containers for which a plugin adjusts ${what}.`)

const pluginName = () =>
  z.string().regex(/^[A-Za-z0-9_.+-]+$/, { error: 'must be the name of a plugin, without its index' })

const defaultValidator = section({
  enabled: z.boolean().default(false).describe('Whether the rules below count. They hold for every plugin.'),
  rejectOciHooks: rejection('OCI hooks'),
  rejectRuntimeDefaultSeccomp: rejection('the default seccomp profile'),
  rejectUnconfinedSeccomp: rejection('the seccomp profile of a container that has none'),
  rejectCustomSeccomp: rejection('a seccomp profile that the pod names'),
  rejectNamespaces: rejection('Linux namespaces'),
  rejectSysctls: rejection('kernel parameters'),
  rejectRdt: rejection('the share of cache and memory bandwidth'),
  requiredPlugins: z
    .array(pluginName())
    .default([])
    .describe('Plugins without which no container is created. Static pods that bring them need the annotation below.'),
  tolerateMissingPluginsAnnotation: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, { error: 'must be the name of an annotation' })
    .optional()
    .describe('Pods that have this annotation, with the value "true", do without the required plugins. Not set: none.'),
}).describe('What plugins may not do.')

const seconds = (whole: number) => z.number().min(0.1).max(600).default(whole)

export const nri = section({
  enabled: z.boolean().default(true).describe('Whether there are plugins at all.'),
  socket: socketPath()
    .optional()
    .describe(
      'The unix socket that plugins connect to, for root only. Not set: /var/run/nri/nri.sock, or `nri/nri.sock` under `state` when that is not the default.',
    ),
  allowConnections: z
    .boolean()
    .default(true)
    .describe('Whether plugins may connect to the socket. Otherwise there is none.'),
  pluginDir: absolutePath()
    .default('/opt/nri/plugins')
    .describe('Plugins that are started with the daemon: programs named `<two digits>-<name>`.'),
  pluginConfigDir: absolutePath()
    .default('/etc/nri/conf.d')
    .describe('Their configuration: `<two digits>-<name>.conf`, or `<name>.conf`.'),
  registrationTimeoutSeconds: seconds(5).describe(
    'How long a plugin may take to register, and then to understand what pods and containers there are, in seconds.',
  ),
  requestTimeoutSeconds: seconds(2).describe(
    'How long a plugin may take for an event, in seconds. One that takes longer is disconnected, and the pod goes on without it.',
  ),
  defaultValidator,
}).describe('Plugins by the Node Resource Interface (NRI).')
