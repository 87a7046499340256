/** `CRICKET_E2E_PEER=containerd` runs the suites against containerd, to check what we expect of a runtime. */
export const isPeer = process.env.CRICKET_E2E_PEER === 'containerd'
