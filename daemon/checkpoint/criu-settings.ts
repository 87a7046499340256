/** What CRIU is to do beyond what OCI runtimes can tell it; they hand it the name of a file with this (annotation org.criu.config). */

/** Connections that a container had are closed when it is restored: its address is another one, and the other side has given up. */
export const criuSettings = 'tcp-close\n'
