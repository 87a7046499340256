/** On which processor further commands in a container start, so that probes do not disturb what runs on the others. */

/** Intervals of processors that are not put in order: "7,0-3" has its first at 0. */
export const execCpu = (choice: 'first' | 'last' | undefined, cpus: string): number | undefined => {
  // Without processors of its own there is none to choose from.
  if (choice === undefined || cpus === '') return undefined
  const bounds = cpus.split(/[,-]/).map(Number)
  return choice === 'first' ? Math.min(...bounds) : Math.max(...bounds)
}
