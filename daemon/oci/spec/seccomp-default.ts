/**
 * Our own RuntimeDefault seccomp profile. Three answers: allowed; EPERM for system calls that exist to administer the
 * host; ENOSYS for everything else, so that a C library meeting a call newer than this list falls back to an older one.
 *
 * Beside the lists: clone may not make namespaces, clone3 (whose flags a filter cannot see) does not exist, and
 * AF_ALG and AF_VSOCK sockets cannot be had. These rules compare masked values: the kernel looks at 32 bits of such an
 * argument, so a filter that compares all 64 lets a set upper bit slip past it.
 */
import type { OciSeccomp, OciSyscallArgument, OciSyscallRule } from './types.ts'

const EPERM = 1
const ENOSYS = 38
const EAFNOSUPPORT = 97

const words = (...lines: string[]): string[] => lines.join(' ').split(' ')

const ALLOWED = words(
  // Files and directories.
  'access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64',
  'fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr',
  'flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat',
  'getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat',
  'llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2',
  'pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat',
  'rename renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink',
  'symlinkat sync sync_file_range sync_file_range2 arm_sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat',
  'utime utimensat utimensat_time64 utimes vmsplice write writev file_getattr file_setattr name_to_handle_at cachestat',
  // Of the container's own mount namespace, unless it has the capability for others.
  'listmount statmount',
  // Waiting for files.
  'epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2',
  'fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect pipe pipe2 poll ppoll ppoll_time64',
  'pselect6 pselect6_time64 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime',
  'timerfd_settime64 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit',
  // Memory.
  'brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap',
  'mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages process_mrelease',
  // Processes, threads and who they are.
  'alarm capget capset execve execveat exit exit_group fork vfork wait4 waitid waitpid prctl arch_prctl getcpu getegid',
  'getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid',
  'getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set',
  'kill nice pause pidfd_open pidfd_send_signal prlimit64 restart_syscall rseq set_robust_list set_tid_address set_thread_area',
  'get_thread_area setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid',
  'setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sigaltstack',
  'tgkill tkill times ugetrlimit uname sysinfo getrandom seccomp modify_ldt landlock_add_rule landlock_create_ruleset',
  'landlock_restrict_self lsm_get_self_attr lsm_list_modules ptrace process_vm_readv process_vm_writev uretprobe',
  // Scheduling and time.
  'clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep',
  'clock_nanosleep_time64 adjtimex getitimer setitimer gettimeofday nanosleep sched_get_priority_max sched_get_priority_min',
  'sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64',
  'sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield time timer_create timer_delete',
  'timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64',
  // Signals and locks.
  'rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait',
  'rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction signal sigpending sigprocmask sigreturn sigsuspend futex futex_requeue',
  'futex_time64 futex_wait futex_waitv futex_wake',
  // Between processes. `socketcall` exists in 32-bit programs only and hides its arguments; refusing it breaks them.
  'ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink',
  'msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget accept accept4 bind',
  'connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg',
  'sendto setsockopt shutdown socketcall socketpair',
)

const ALLOWED_ON: Readonly<Record<string, readonly string[]>> = {
  amd64: ['readdir', 'oldfstat', 'oldlstat', 'oldolduname', 'oldstat', 'olduname', 'sgetmask', 'ssetmask'],
  arm64: ['arm_fadvise64_64', 'breakpoint', 'cacheflush', 'set_tls', 'get_tls', 'sync_file_range2'],
}

/** What a capability of the container opens beside the list above. */
const WITH_CAPABILITY: Readonly<Record<string, readonly string[]>> = {
  CAP_DAC_READ_SEARCH: ['open_by_handle_at'],
  CAP_SYS_ADMIN: words(
    'bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_set_self_attr mount',
    'mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns',
    'syslog umount umount2 unshare',
  ),
  CAP_SYS_BOOT: ['reboot'],
  CAP_SYS_CHROOT: ['chroot'],
  CAP_SYS_MODULE: ['delete_module', 'finit_module', 'init_module'],
  CAP_SYS_PACCT: ['acct'],
  CAP_SYS_PTRACE: ['kcmp', 'pidfd_getfd', 'process_madvise'],
  CAP_SYS_RAWIO: ['ioperm', 'iopl'],
  CAP_SYS_TIME: ['clock_settime', 'clock_settime64', 'settimeofday', 'stime'],
  CAP_SYS_TTY_CONFIG: ['vhangup'],
  CAP_SYS_NICE: ['get_mempolicy', 'mbind', 'migrate_pages', 'move_pages', 'set_mempolicy', 'set_mempolicy_home_node'],
  CAP_SYSLOG: ['syslog'],
  CAP_BPF: ['bpf'],
  CAP_PERFMON: ['perf_event_open'],
}

/** Never for a container of this profile: known calls, refused with the error that programs expect. */
const REFUSED = words(
  'add_key io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl nfsservctl pivot_root',
  'request_key swapoff swapon sysfs _sysctl userfaultfd uselib ustat vm86 vm86old',
)

/** The namespace flags of clone(2): CGROUP, NEWNS, UTS, IPC, USER, PID, NET. */
const CLONE_NAMESPACES = [0x02000000, 0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
const CLONE_NAMESPACE_MASK = CLONE_NAMESPACES.reduce((mask, flag) => mask + flag, 0)

/** Address families 0 to 47 without 38 (AF_ALG) and 40 (AF_VSOCK), as blocks of equal upper bits: [mask, value]. */
const FAMILIES: readonly (readonly [number, number])[] = [
  [0xffffffe0, 0],
  [0xfffffffc, 32],
  [0xfffffffe, 36],
  [0xffffffff, 39],
  [0xffffffff, 41],
  [0xfffffffe, 42],
  [0xfffffffc, 44],
]
const REFUSED_FAMILIES = [38, 40]

/** personality(2): Linux, 32-bit Linux, each also reporting a 2.6 kernel, and the question for the current one. */
const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]

const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  amd64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
}

/** The architecture names of libseccomp for one of an image's; undefined when we know none. */
export const seccompArchitectures = (arch: string): readonly string[] | undefined =>
  Object.hasOwn(ARCHITECTURES, arch) ? ARCHITECTURES[arch] : undefined

/** The profile for a container with this final set of capabilities. */
export const defaultSeccomp = (
  architectures: readonly string[],
  arch: string,
  granted: readonly string[],
): OciSeccomp => {
  const opened = new Set(granted.flatMap((name) => WITH_CAPABILITY[name] ?? []))
  const conditional = new Set(Object.values(WITH_CAPABILITY).flat())
  // clone and clone3 have rules of their own.
  const refused = [...REFUSED, ...conditional].filter((name) => !opened.has(name) && !name.startsWith('clone'))
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ENOSYS,
    architectures,
    syscalls: [
      allow([...ALLOWED, ...(ALLOWED_ON[arch] ?? []), ...opened]),
      ...PERSONALITIES.map((value) => allow(['personality'], [{ index: 0, value, op: 'SCMP_CMP_EQ' }])),
      ...FAMILIES.map(([mask, value]) => allow(['socket'], [masked(mask, value)])),
      ...REFUSED_FAMILIES.map((family) => refuse(['socket'], EAFNOSUPPORT, [masked(0xffffffff, family)])),
      ...(opened.has('clone') ? [] : cloneRules()),
      refuse(refused, EPERM),
    ],
  }
}

const cloneRules = (): OciSyscallRule[] => [
  allow(['clone'], [masked(CLONE_NAMESPACE_MASK, 0)]),
  ...CLONE_NAMESPACES.map((flag) => refuse(['clone'], EPERM, [masked(flag, flag)])),
]

const masked = (mask: number, value: number): OciSyscallArgument => ({
  index: 0,
  value: mask,
  valueTwo: value,
  op: 'SCMP_CMP_MASKED_EQ',
})

const allow = (names: readonly string[], args?: readonly OciSyscallArgument[]): OciSyscallRule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args && { args }),
})

const refuse = (names: readonly string[], errnoRet: number, args?: readonly OciSyscallArgument[]): OciSyscallRule => ({
  names,
  action: 'SCMP_ACT_ERRNO',
  errnoRet,
  ...(args && { args }),
})
