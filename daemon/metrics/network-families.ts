/** Metrics of a pod's network interfaces. */
import type { InterfaceCounters, Traffic } from '#linux/net-counters.ts'
import type { Family } from './family.ts'

type NetworkFamily = Family<readonly InterfaceCounters[]>

const directions = [
  { name: 'receive', side: 'received', verb: 'received' },
  { name: 'transmit', side: 'sent', verb: 'sent' },
] as const

const countersOf = ({ name, side, verb }: (typeof directions)[number]): NetworkFamily[] => {
  const counter = (what: string, help: string, value: (traffic: Traffic) => number): NetworkFamily => ({
    name: `container_network_${name}_${what}_total`,
    help,
    type: 'counter',
    labels: ['interface'],
    samples: (interfaces) => interfaces.map((each) => ({ value: value(each[side]), labels: [each.name] })),
  })
  return [
    counter('bytes', `Bytes ${verb}`, ({ bytes }) => bytes),
    counter('packets', `Packets ${verb}`, ({ packets }) => packets),
    counter('packets_dropped', `Packets that were dropped instead of being ${verb}`, ({ dropped }) => dropped),
    counter('errors', `Errors of what was to be ${verb}`, ({ errors }) => errors),
  ]
}

export const networkFamilies: readonly NetworkFamily[] = directions.flatMap(countersOf)
