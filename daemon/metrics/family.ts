/** What a metric is: a name, what it means, and how its values follow from a reading. The names are cAdvisor's, which dashboards know. */

export interface Sample {
  /** Whole and not negative, as the CRI has no others. */
  readonly value: number
  /** In the order of the family's own labels. */
  readonly labels?: readonly string[]
}

export interface Family<Reading> {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge'
  /** Besides those that every metric has. */
  readonly labels?: readonly string[]
  /** None when the host does not count it, or it does not apply. */
  readonly samples: (reading: Reading) => readonly Sample[]
}

/** As cAdvisor's metrics have them at a kubelet; what does not apply is empty. */
export const BASE_LABELS = ['id', 'name', 'image', 'pod', 'namespace', 'container'] as const

/** The one value of a family without labels; none when it is not known. */
export const one = (value: number | undefined): readonly Sample[] => (value === undefined ? [] : [{ value }])

const NS_PER_SECOND = 1e9
const US_PER_SECOND = 1e6

export const secondsOfNs = (ns: number | undefined): number | undefined =>
  ns === undefined ? undefined : ns / NS_PER_SECOND
export const secondsOfUs = (us: number | undefined): number | undefined =>
  us === undefined ? undefined : us / US_PER_SECOND
