/** The random archives of formats.test.ts, many of them. */
process.env.CRICKET_ARCHIVES ??= '20000'
await import('./formats.test.ts')
