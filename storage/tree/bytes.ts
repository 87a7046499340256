/** Paths as bytes: strings of one character per byte on our side, Buffers towards the kernel, so that names that are not UTF-8 survive. */

export const toBytes = (path: string): Buffer => Buffer.from(path, 'latin1')
