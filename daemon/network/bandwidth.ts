/** The bandwidth that a pod's annotations ask for, as the "bandwidth" capability of CNI wants it. */
import { RuntimeError } from '#proto/errors.ts'

/** Rates in bits per second, bursts in bits. */
export interface Bandwidth {
  ingressRate?: number
  ingressBurst?: number
  egressRate?: number
  egressBurst?: number
}

const INGRESS = 'kubernetes.io/ingress-bandwidth'
const EGRESS = 'kubernetes.io/egress-bandwidth'

const KILO = 1e3
const PETA = 1e15

/** As much as the plugin's 32 bit fields take: the rate is what limits, not the bucket. */
const BURST = 2 ** 32 - 1

const EXPONENT: Record<string, number> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 }
const POWER: Record<string, number> = { Ki: 1, Mi: 2, Gi: 3, Ti: 4, Pi: 5, Ei: 6 }

/** A Kubernetes quantity ("10M", "1.5Gi", "1e6") rounded up to a whole number; undefined when it is none. */
export const parseQuantity = (text: string): number | undefined => {
  const parts = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i|))$/.exec(text)
  if (parts === null) return undefined
  const [, digits = '', exponent, suffix = ''] = parts
  if (exponent !== undefined) return Math.ceil(Number(`${digits}${exponent}`))
  const power = POWER[suffix]
  // Number() of "1.1e6" is exact where 1.1 * 10 ** 6 is not.
  return Math.ceil(power === undefined ? Number(`${digits}e${EXPONENT[suffix]}`) : Number(digits) * 1024 ** power)
}

const rateOf = (annotations: Readonly<Record<string, string>>, key: string): number | undefined => {
  const text = annotations[key]
  if (text === undefined) return undefined
  const rate = parseQuantity(text)
  // The limits of Kubernetes itself: below 1k the pod could not work, above 1P the number is a mistake.
  if (rate !== undefined && rate >= KILO && rate <= PETA) return rate
  throw new RuntimeError(
    'invalid-argument',
    `Annotation "${key}" must be a quantity from 1k to 1P, not "${text.slice(0, 80)}"`,
  )
}

/**
 * What the annotations ask for, or undefined when they ask for nothing.
 * @throws RuntimeError invalid-argument naming an annotation that is no usable quantity
 */
export const podBandwidth = (annotations: Readonly<Record<string, string>>): Bandwidth | undefined => {
  const ingress = rateOf(annotations, INGRESS)
  const egress = rateOf(annotations, EGRESS)
  if (ingress === undefined && egress === undefined) return undefined
  return {
    ...(ingress !== undefined && { ingressRate: ingress, ingressBurst: BURST }),
    ...(egress !== undefined && { egressRate: egress, egressBurst: BURST }),
  }
}
