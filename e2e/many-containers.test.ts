/** Lists of a thousand containers that have ended; of ten thousand in many-containers.long.ts. */

import { testManyContainers } from './many-containers.ts'

testManyContainers(1_000)
