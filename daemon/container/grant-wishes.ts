/** Does what plugins want done to containers. */
import type { WishGranter } from '../nri/plugin-wishes.ts'
import { type StopNeeds, stopContainer } from './stop-container.ts'
import { type UpdateNeeds, updateForPlugin } from './update-resources.ts'

/** What a pod gets that says nothing else: the runtime is not told what this one says. */
const EVICTION_GRACE_SECONDS = 30n

export const wishGranter = (needs: StopNeeds & UpdateNeeds): WishGranter => ({
  update: (id, limits) => updateForPlugin(needs, id, limits),
  evict: (id) => stopContainer(needs, id, EVICTION_GRACE_SECONDS),
})
