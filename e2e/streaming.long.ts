/** Rows E2 and E3 as often as leaks need to show: `npm run test:long`. */
process.env.CRICKET_LEAVERS ??= '600'
await import('./streaming-races.test.ts')
