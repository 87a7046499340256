/**
 * A daemon on a root directory of its own: it and all that it starts see the machine's files, but what they write
 * outside the site goes into layers of their own. So it is known what they wrote, whatever other programs do meanwhile.
 */

import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { RuntimeProgram } from './runtime.ts'
import type { Site } from './site.ts'

/** Where the layers lie, in a file system that only the daemon's mount namespace has: nothing need be undone. */
const layersOf = (site: Site): string => site.path('apart')

/**
 * Mounts a layer on each file system of the machine, makes that the root, and becomes the program. What is mounted
 * in other sites is left behind. The kernel's own file systems, and files that are mounts, are the machine's.
 */
const SCRIPT = `
set -eu
site=$1 layers=$2
shift 2
mount -t tmpfs layers "$layers"
root=$layers/root
mkdir "$root"
cut -d ' ' -f 5 /proc/self/mountinfo | grep -Ev '^/(proc|sys|dev)(/|$)|/ck-|\\\\' | sort -u >"$layers/places"
while read -r place; do
  name=$(printf %s "$place" | tr / :)
  mkdir -p "$layers/written/$name" "$layers/work/$name"
  if [ -d "$place" ]; then
    mount -t overlay layer -o "lowerdir=$place,upperdir=$layers/written/$name,workdir=$layers/work/$name" "$root$place"
  else
    mount --bind "$place" "$root$place"
  fi
done <"$layers/places"
for place in /proc /sys /dev; do mount --rbind "$place" "$root$place"; done
mount --bind "$site" "$root$site"
mount --bind "$layers" "$root$layers"
cd "$root"
pivot_root . .
umount -l .
cd /
exec "$@"
`

/** The same program, apart. Needs root. */
export function apart(site: Site, program: RuntimeProgram): RuntimeProgram {
  mkdirSync(layersOf(site))
  const command = ['unshare', '--mount', 'sh', '-c', SCRIPT, 'sh', site.dir, layersOf(site), ...program.command]
  return { ...program, command }
}

/** What a daemon that is apart has written, changed or removed outside its site, until now: absolute paths. */
export function writtenApart(site: Site, pid: number): string[] {
  const layers = join(`/proc/${pid}/root`, layersOf(site), 'written')
  return readdirSync(layers)
    .flatMap((name) =>
      readdirSync(join(layers, name), { recursive: true, encoding: 'utf8' }).map((path) =>
        join(name.replaceAll(':', '/'), path),
      ),
    )
    .sort()
}
