/**
 * A project of the file system for each container: its counters say at once what the container wrote, its limits bound that.
 * Numbers are not stored anywhere but in the records; one is free when nothing belongs to it.
 */
import type { Linux } from '#linux/linux.ts'
import type { ProjectLimits } from '#linux/project-quota.ts'
import { messageOf, RuntimeError } from '#proto/errors.ts'
import type { Log } from '#proto/log.ts'
import type { Usage } from '../tree/measure-tree.ts'

/** The kubelet counts its own from 2^20 up. */
const FIRST = 0x4352_0000
const COUNT = 0x1_0000

export interface ProjectsParts {
  /** Where the containers write. */
  readonly directory: string
  readonly linux: Linux
  readonly log: Log
  /** The most that a container may add to what it is made of. */
  readonly limits: ProjectLimits
}

export class Projects {
  readonly #parts: ProjectsParts
  #next = FIRST

  private constructor(parts: ProjectsParts) {
    this.#parts = parts
  }

  /**
   * Undefined where the file system does not count projects.
   * @throws RuntimeError failed-precondition when limits are wanted that it does not keep
   */
  static open(parts: ProjectsParts): Projects | undefined {
    const { directory, linux, limits } = parts
    const quota = linux.projectQuotaOf(directory)
    const isLimited = (limits.bytes ?? 0) > 0 || (limits.inodes ?? 0) > 0
    if (isLimited && quota !== 'limits')
      throw new RuntimeError(
        'failed-precondition',
        `What a container writes cannot be limited: the file system of "${directory}" keeps no project quotas (mount ext4 or xfs with "prjquota")`,
      )
    return quota === 'none' ? undefined : new Projects(parts)
  }

  /** Puts a new directory into a project of its own, without limits yet. */
  assign(path: string): number {
    const { directory, linux } = this.#parts
    for (let tried = 0; tried < COUNT; tried++) {
      const project = this.#next
      this.#next = FIRST + ((project - FIRST + 1) % COUNT)
      // What was removed keeps its project until it is really gone.
      if (linux.projectUsage(directory, project).inodes > 0) continue
      linux.limitProject(directory, project, {})
      linux.setProject(path, project)
      return project
    }
    throw new RuntimeError('resource-exhausted', `All ${COUNT} projects of "${directory}" are in use`)
  }

  /** Bounds what comes from now on. */
  limit(project: number): void {
    const { directory, linux, limits } = this.#parts
    const { bytes, inodes } = linux.projectUsage(directory, project)
    linux.limitProject(directory, project, {
      bytes: limits.bytes ? bytes + limits.bytes : 0,
      inodes: limits.inodes ? inodes + limits.inodes : 0,
    })
  }

  /** At once. Undefined when the file system does not tell. */
  usageOf(project: number): Usage | undefined {
    const { directory, linux, log } = this.#parts
    try {
      return linux.projectUsage(directory, project)
    } catch (error) {
      log.warn('Cannot read the counters of a project', { project, why: messageOf(error) })
      return undefined
    }
  }

  /** Lifts the limits of a project that is being removed, so that nothing remembers it. */
  release(project: number): void {
    const { directory, linux, log } = this.#parts
    try {
      linux.limitProject(directory, project, {})
    } catch (error) {
      log.warn('Cannot lift the limits of a project', { project, why: messageOf(error) })
    }
  }
}
