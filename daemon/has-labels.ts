/** The CRI's label selector: every pair must be there. */

export const hasLabels = (labels: { [key: string]: string }, selector: { [key: string]: string } = {}): boolean =>
  Object.entries(selector).every(([key, value]) => labels[key] === value)
