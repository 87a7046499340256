/** The configuration of exec, attach and port-forward: a section of the schema, and what its address means. */
import { BlockList, isIP, isIPv6 } from 'node:net'
import { getCiphers } from 'node:tls'
import * as z from 'zod'
import { absolutePath, section } from './fields.ts'

/** The longest time that Node's timers hold, in whole seconds. */
const MAX_TIMER_SECONDS = 2_147_483

const isCipher = (name: string): boolean => getCiphers().includes(name.toLowerCase())

const streamingTls = section({
  enabled: z.boolean().default(false).describe('Whether the streaming server speaks TLS.'),
  certFile: absolutePath()
    .optional()
    .describe(
      'Its certificate with the intermediate ones, in PEM. Needs `keyFile`. Changed files are taken within a minute. Not set: a certificate that vouches for itself, made at start.',
    ),
  keyFile: absolutePath().optional().describe('The private key of the certificate, in PEM.'),
  clientCaFile: absolutePath()
    .optional()
    .describe(
      'Certificates, in PEM, that vouch for clients: others are turned away. The kubelet shows no certificate to its runtime. Not set: any client that has the URL.',
    ),
  minVersion: z.enum(['1.2', '1.3']).default('1.2').describe('The lowest version of TLS that is spoken.'),
  ciphers: z
    .array(z.string().refine(isCipher, { error: 'must be the name of a cipher suite that OpenSSL knows' }))
    .default([])
    .describe('The cipher suites that are allowed, by their names in OpenSSL. Empty: those of Node.'),
}).describe('Encryption of the streaming server.')

export const streaming = section({
  address: z
    .string()
    .refine((address) => isIP(address) !== 0, { error: 'must be an IPv4 or IPv6 address' })
    .default('127.0.0.1')
    .describe(
      'The address of the server for exec, attach and port-forward. The kubelet of the same node is its client, so the loopback address will do; any other needs `streaming.tls.enabled`.',
    ),
  port: z.int().min(0).max(65_535).default(0).describe('Its port; 0 takes any that is free.'),
  idleTimeoutSeconds: z
    .int()
    .min(1)
    .max(MAX_TIMER_SECONDS)
    .default(14_400)
    .describe('A session in which no data moves for this long is ended. Pings are no data.'),
  creationTimeoutSeconds: z
    .int()
    .min(1)
    .max(3_600)
    .default(30)
    .describe('How long a client may take to open the streams of its session, or the second one of a pair.'),
  maxConnections: z
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .describe('The most connections at a time; more are closed at once.'),
  tls: streamingTls,
}).describe('Exec, attach and port-forward.')

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether only processes of this host (in its network namespace) can connect to it. */
export const isLoopback = (address: string): boolean => loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
