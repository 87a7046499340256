/** `child.ts DIR story|recover POINT POLICY NAME`: tells the crash story of images, or only opens and closes, and dies at that point. For tests. */
import { once } from 'node:events'
import { dieAt } from '#storage/testing/die-at.ts'
import { type CrashScene, openForStory, tellCrashStory } from './crash-story.ts'

const [root = '', what, point = '', policyFile = '', name = ''] = process.argv.slice(2)

/** Answered before it goes on: a process that is killed takes with it what it has not sent. */
const ask = async (message: object): Promise<void> => {
  process.send?.(message)
  await once(process, 'message')
}

const scene: CrashScene = {
  policyFile,
  name,
  serve: (serve) => ask({ serve }),
  told: (told) => ask({ told }),
}

const changes = await dieAt(root, point)
if (what === 'story') await tellCrashStory(root, scene)
else {
  const { images, close } = await openForStory(root, policyFile)
  await images.collectGarbage()
  await close()
}
console.log(JSON.stringify(changes()))
process.disconnect?.()
