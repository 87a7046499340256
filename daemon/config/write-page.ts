/** Writes docs/configuration.md. Run it after every change of schema.ts. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configurationPage } from './document.ts'

writeFileSync(join(import.meta.dirname, '../../docs/configuration.md'), configurationPage())
