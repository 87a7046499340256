/** Who we are to clients. */

/** Locked to the Kubernetes minor release; the same as in package.json, which a test checks. */
export const VERSION = '1.36.0'

/** Constant for ever: the kubelet writes it into every pod status as `cricket://<id>`. */
export const RUNTIME_NAME = 'cricket'

/** The version of the CRI that is served (VersionResponse.runtime_api_version). */
export const API_VERSION = 'v1'
