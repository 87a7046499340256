/** Names of the system calls that profiles refuse by name, for messages. */

const X86_64 = 0xc000003e

const NAMES_X86_64: Readonly<Record<number, string>> = {
  ...{ 56: 'clone', 101: 'ptrace', 103: 'syslog', 133: 'mknod', 134: 'uselib', 136: 'ustat', 139: 'sysfs' },
  ...{ 153: 'vhangup', 155: 'pivot_root', 156: '_sysctl', 161: 'chroot', 163: 'acct', 164: 'settimeofday' },
  ...{ 165: 'mount', 166: 'umount2', 167: 'swapon', 168: 'swapoff', 169: 'reboot', 170: 'sethostname' },
  ...{ 171: 'setdomainname', 172: 'iopl', 173: 'ioperm', 175: 'init_module', 176: 'delete_module', 179: 'quotactl' },
  ...{ 180: 'nfsservctl', 212: 'lookup_dcookie', 227: 'clock_settime', 239: 'get_mempolicy', 246: 'kexec_load' },
  ...{ 248: 'add_key', 249: 'request_key', 250: 'keyctl', 259: 'mknodat', 272: 'unshare', 298: 'perf_event_open' },
  ...{ 300: 'fanotify_init', 304: 'open_by_handle_at', 308: 'setns', 312: 'kcmp', 313: 'finit_module' },
  ...{ 320: 'kexec_file_load', 321: 'bpf', 323: 'userfaultfd', 425: 'io_uring_setup', 426: 'io_uring_enter' },
  ...{ 427: 'io_uring_register', 428: 'open_tree', 429: 'move_mount', 430: 'fsopen', 431: 'fsconfig', 432: 'fsmount' },
  ...{ 433: 'fspick', 438: 'pidfd_getfd', 440: 'process_madvise', 442: 'mount_setattr', 443: 'quotactl_fd' },
}

/** "mount", or "system call 40 of machine 0xc00000b7". */
export const callName = (number: number, machine: number): string =>
  (machine === X86_64 ? NAMES_X86_64[number] : undefined) ??
  `system call ${number} of machine 0x${machine.toString(16)}`
