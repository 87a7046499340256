/**
 * `npm run bench -- spec`: how long it takes to make the spec of a container with 100 mounts and 200 variables. From the sources in a
 * process of its own, because a built daemon does not show its parts.
 */
import { execFileSync } from 'node:child_process'
import { resolve } from 'node:path'
import { percentiles, renderTable } from './figures.ts'

const PROGRAM = resolve(import.meta.dirname, '../../daemon/oci/spec/testing/measure.ts')

export function benchSpec(): void {
  const text = execFileSync(process.execPath, [PROGRAM], { encoding: 'utf8' })
  const samples: Record<string, number[]> = JSON.parse(text)
  const figures = Object.entries(samples).flatMap(([name, cricket]) =>
    percentiles(name, { cricket }, [0.5, 0.95, 0.99]),
  )
  console.log(renderTable(figures, ['cricket']))
}
