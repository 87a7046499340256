/** Lists of ten thousand containers that have ended. `npm run test:long`. */

import { testManyContainers } from './many-containers.ts'

testManyContainers(10_000)
