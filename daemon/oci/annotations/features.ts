/**
 * What a pod may ask for by annotation beyond the CRI, as far as its runtime handler allows it: our names, and those under
 * which CRI-O knows the same (its present and its former one). The first name is ours, and wins.
 */

export const FEATURES = {
  shmSize: ['io.cricket.shm-size', 'shm-size.crio.io', 'io.kubernetes.cri-o.ShmSize'],
  umask: ['io.cricket.umask', 'umask.crio.io', 'io.kubernetes.cri-o.umask'],
  writableCgroup: [
    'io.cricket.writable-cgroup',
    'cgroup2-mount-hierarchy-rw.crio.io',
    'io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw',
  ],
  devices: ['io.cricket.devices', 'devices.crio.io', 'io.kubernetes.cri-o.Devices'],
  skipGomaxprocs: ['io.cricket.skip-gomaxprocs', 'skip-gomaxprocs.crio.io'],
  seccompNotifier: [
    'io.cricket.seccomp-notifier',
    'seccomp-notifier-action.crio.io',
    'io.kubernetes.cri-o.seccompNotifierAction',
  ],
  cpuLoadBalancing: ['io.cricket.cpu-load-balancing', 'cpu-load-balancing.crio.io'],
  cpuQuota: ['io.cricket.cpu-quota', 'cpu-quota.crio.io'],
  irqLoadBalancing: ['io.cricket.irq-load-balancing', 'irq-load-balancing.crio.io'],
  cpuCStates: ['io.cricket.cpu-c-states', 'cpu-c-states.crio.io'],
  cpuFreqGovernor: ['io.cricket.cpu-freq-governor', 'cpu-freq-governor.crio.io'],
  trustVolumeLabels: [
    'io.cricket.trust-volume-labels',
    'try-skip-volume-selinux-label.crio.io',
    'io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel',
  ],
} as const satisfies Record<string, readonly string[]>

export type Feature = keyof typeof FEATURES

/** What a container asks for, by feature. */
export type FeatureValues = Readonly<Partial<Record<Feature, string>>>

export const isFeature = (name: string): name is Feature => Object.hasOwn(FEATURES, name)

/** Every feature, in the order of the table. */
export const featureNames = (): Feature[] => Object.keys(FEATURES).filter(isFeature)
