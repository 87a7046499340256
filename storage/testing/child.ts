/**
 * A storage in a process of its own, for tests. `child.ts ROOT` opens the storage there, says how that went and waits to be killed.
 * `child.ts DIR story POINT` tells the crash story and dies at that point, `child.ts DIR recover POINT` only opens and closes.
 */
import { linux } from '#linux/linux.ts'
import { RuntimeError } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { openStorage } from '../storage.ts'
import { openForStory, tellCrashStory } from './crash-story.ts'
import { dieAt } from './die-at.ts'

const [root = '', what, point = ''] = process.argv.slice(2)

const openAndWait = async (): Promise<void> => {
  try {
    await openStorage({ root, linux, log: silentLog })
    console.log('open')
    setInterval(() => {}, 1_000_000)
  } catch (error) {
    console.log(error instanceof RuntimeError ? `${error.kind}: ${error.message}` : String(error))
  }
}

if (what === undefined) await openAndWait()
else {
  const changes = await dieAt(root, point)
  if (what === 'story') await tellCrashStory(root)
  else {
    const storage = await openForStory(root)
    await storage.trashEmptied()
    await storage.close()
  }
  console.log(JSON.stringify(changes()))
}
