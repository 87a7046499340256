/** Which extended attributes of an archive reach the file system. */

/**
 * `user.*` and file capabilities. Not `trusted.*` and `user.overlay.*`: they steer overlayfs (opaque, redirect, metacopy)
 * and would let a layer show other layers' files. Not `security.selinux`, `security.ima`, `system.*`: host policy.
 */
export const isAllowedXattr = (name: string): boolean =>
  name === 'security.capability' || (name.startsWith('user.') && name.length > 5 && !name.startsWith('user.overlay.'))
