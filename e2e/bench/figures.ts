/** Samples, percentiles, and the table that compares two runtimes. */

/** One figure of the comparison; smaller is better in all of them. */
export interface Figure {
  name: string
  unit: 'ms' | 'MB' | 'count'
  /** By runtime name. */
  values: Record<string, number>
}

/** The sample below which the fraction `p` of all samples lies (nearest rank). */
export function percentile(samples: number[], p: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN
}

/** p50, p90 and p99 of each runtime's samples as three figures. */
export function percentiles(name: string, samples: Record<string, number[]>, ps = [0.5, 0.9, 0.99]): Figure[] {
  return ps.map((p) => ({
    name: `${name} p${p * 100}`,
    unit: 'ms',
    values: Object.fromEntries(Object.entries(samples).map(([runtime, values]) => [runtime, percentile(values, p)])),
  }))
}

/** The table with a ratio of the first runtime to the second, where there are two. */
export function renderTable(figures: Figure[], runtimes: string[]): string {
  const [first, second] = runtimes
  const header = ['', ...runtimes, second ? 'ratio' : '']
  const rows = figures.map(({ name, unit, values }) => {
    const ratio = first && second ? (values[first] ?? Number.NaN) / (values[second] ?? Number.NaN) : Number.NaN
    const shown = runtimes.map((runtime) => showValue(values[runtime], unit))
    return [name, ...shown, Number.isFinite(ratio) ? ratio.toFixed(2) : '']
  })
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => (row[column] ?? '').length)))
  const line = (row: string[]) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('   ')
  return [line(header), line(widths.map((width) => '─'.repeat(width))), ...rows.map(line)].join('\n')
}

function showValue(value: number | undefined, unit: Figure['unit']): string {
  if (value === undefined || !Number.isFinite(value)) return '–'
  if (unit === 'count') return String(value)
  return `${value.toFixed(unit === 'MB' || value < 10 ? 2 : 1)} ${unit}`
}
