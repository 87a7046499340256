/** Projects that count and limit what containers write; against a file system that is made up here. The real one is in e2e/vm/quota.test.ts. */
import assert from 'node:assert/strict'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { LinuxError } from '#linux/errno.ts'
import { type Linux, linux } from '#linux/linux.ts'
import type { ProjectLimits } from '#linux/project-quota.ts'
import { isKind } from '#proto/errors.ts'
import { silentLog } from '#proto/log.ts'
import { archive, file } from '../tar/testing/tarsmith.ts'
import { temporaryStorage } from '../testing/temporary-storage.ts'
import { Projects } from './projects.ts'

/** A file system that keeps projects; `use` says what one has. */
const quotaHost = (quota: ReturnType<Linux['projectQuotaOf']> = 'limits') => {
  const usage = new Map<number, { bytes: number; inodes: number }>()
  const limits = new Map<number, ProjectLimits>()
  const fake: Linux = {
    ...linux,
    projectQuotaOf: () => quota,
    setProject: (_, project) => void usage.set(project, { bytes: 4096, inodes: 1 }),
    limitProject: (_, project, wanted) => void limits.set(project, wanted),
    projectUsage: (_, project) => usage.get(project) ?? { bytes: 0, inodes: 0 },
  }
  return { linux: fake, usage, limits }
}

describe('projects', () => {
  const open = (host: { linux: Linux }, limits: ProjectLimits = {}) =>
    Projects.open({ directory: '/', linux: host.linux, log: silentLog, limits })

  it('are free when nothing belongs to them', () => {
    const host = quotaHost()
    const projects = open(host) ?? assert.fail()
    const first = projects.assign('/a')
    host.usage.set(first + 1, { bytes: 1, inodes: 1 })
    assert.equal(projects.assign('/b'), first + 2)
    // Another daemon, or this one after a restart.
    assert.equal(open(host)?.assign('/c'), first + 3)
  })

  it('are limited from what is there already', () => {
    const host = quotaHost()
    const projects = open(host, { bytes: 1000, inodes: 100 }) ?? assert.fail()
    const project = projects.assign('/a')
    assert.deepEqual(host.limits.get(project), {})
    host.usage.set(project, { bytes: 50_000, inodes: 70 })
    projects.limit(project)
    assert.deepEqual(host.limits.get(project), { bytes: 51_000, inodes: 170 })
    projects.release(project)
    assert.deepEqual(host.limits.get(project), {})
  })

  it('are not there where nothing counts, unless limits are wanted: that is refused', () => {
    assert.equal(open(quotaHost('none')), undefined)
    assert.notEqual(open(quotaHost('counts')), undefined)
    for (const quota of ['none', 'counts'] as const)
      assert.throws(
        () => open(quotaHost(quota), { bytes: 1 }),
        (error) => isKind(error, 'failed-precondition') && /prjquota/.test(String(error)),
      )
  })
})

describe('a container with a project', () => {
  const make = async (t: TestContext, host: { linux: Linux }) => {
    const temporary = await temporaryStorage(t, { linux: host.linux })
    const { diffId } = await temporary.unpack(archive(file('f')))
    const create = (id: string, readonly = false) =>
      temporary.storage.rootfs.create({ id, layers: [diffId], mountpoint: temporary.mountpoint(id), readonly })
    return { temporary, create }
  }

  it('has its counters, at once and after a restart; a volume has none', async (t) => {
    const host = quotaHost('counts')
    const { temporary, create } = await make(t, host)
    await create('c')
    await create('volume', true)
    const [project = assert.fail()] = host.usage.keys()
    assert.equal(host.usage.size, 1)
    host.usage.set(project, { bytes: 77_777, inodes: 7 })
    for (const restart of [false, true]) {
      if (restart) await temporary.reopen()
      const { bytes, inodes } = temporary.storage.rootfs.usageOf('c') ?? assert.fail()
      assert.deepEqual([bytes, inodes], [77_777, 7])
    }
    host.usage.delete(project)
    await temporary.storage.rootfs.remove('c')
    assert.deepEqual(host.limits.get(project), {})
  })

  it('is measured when the counters cannot be read', async (t) => {
    const host = quotaHost('counts')
    const { temporary, create } = await make(t, host)
    await create('c')
    writeFileSync(join(temporary.mountpoint('c'), 'new'), 'x'.repeat(50_000))
    host.linux.projectUsage = () => {
      throw new LinuxError('ESRCH', 'quotactl_fd')
    }
    const measured = await temporary.storage.rootfs.measure('c')
    assert.ok(measured.bytes > 50_000)
    assert.deepEqual(temporary.storage.rootfs.usageOf('c'), measured)
  })

  it('cannot be put into one: it is not made', async (t) => {
    const host = quotaHost()
    const { temporary, create } = await make(t, host)
    host.linux.setProject = () => {
      throw new LinuxError('EPERM', 'ioctl')
    }
    await assert.rejects(create('c'), (error) => isKind(error, 'internal'))
    assert.deepEqual(temporary.storage.rootfs.list(), [])
    assert.throws(() => statSync(temporary.mountpoint('c')), { code: 'ENOENT' })
  })
})

describe('this file system', () => {
  it('says whether it keeps projects', () => {
    assert.match(linux.projectQuotaOf('/'), /^(none|counts|limits)$/)
    assert.equal(linux.projectQuotaOf('/proc'), 'none')
  })
})
