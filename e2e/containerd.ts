/** Debian's containerd with everything of its own in a site's directory: the peer of comparisons. */

import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { makeImage, makeLayer, type OciImage } from './oci-image.ts'
import { Runtime } from './runtime.ts'
import type { Site } from './site.ts'

/** Starts it; `pauseImage` is what its sandboxes run, in a registry that speaks plain HTTP on loopback. */
export async function startContainerd(site: Site, pauseImage: string): Promise<Runtime> {
  const socket = site.path('containerd.sock')
  const configPath = site.path('containerd.toml')
  await writeFile(configPath, containerdConfig(site, socket, pauseImage))
  const runtime = new Runtime({
    name: 'containerd',
    command: ['containerd', '--config', configPath],
    socket,
    logPath: site.path('containerd.log'),
  })
  await runtime.start()
  return runtime
}

function containerdConfig({ path, network }: Site, socket: string, pauseImage: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"'
  return `version = 2
root = "${path('root')}"
state = "${path('state')}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "${socket}"
[${cri}]
  sandbox_image = "${pauseImage}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  [${cri}.cni]
    bin_dir = "${network.binDirs[0]}"
    conf_dir = "${network.configDir}"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [${cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.runc.options]
        BinaryName = "runc"
        Root = "${path('runc')}"
`
}

/** What its sandboxes run: a static program that only waits, as the usual pause image does. */
export async function makePauseImage(site: Site): Promise<OciImage> {
  const source = site.path('pause.c')
  const program = site.path('pause')
  await writeFile(source, '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n')
  execFileSync('gcc', ['-Os', '-static', '-s', '-o', program, source])
  const layer = await makeLayer([{ path: 'pause', content: await readFile(program), mode: 0o755 }])
  return makeImage([layer], { Entrypoint: ['/pause'], WorkingDir: '/' })
}
