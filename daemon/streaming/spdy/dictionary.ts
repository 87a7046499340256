/**
 * The preset dictionary of SPDY/3 header blocks (SPDY protocol draft 3, 2.6.10.1): words that both sides know before the first
 * byte. Most are preceded by their length, as they would be in a block.
 */

const COUNTED =
  `options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age
allow authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range
if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after
server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status`.split(/\s+/)

const COUNTED_END = ['200 OK', 'version', 'HTTP/1.1', 'url', 'public', 'set-cookie', 'keep-alive', 'origin']

const STATUSES = [
  100, 101, 201, 202, 205, 206, 300, 302, 303, 304, 305, 306, 307, 402, 405, 406, 407, 408, 409, 410, 411, 412,
]
const MORE_STATUSES = [413, 414, 415, 416, 417, 502, 504, 505]

const REASONS = [
  '203 Non-Authoritative Information',
  '204 No Content',
  '301 Moved Permanently',
  '400 Bad Request',
  '401 Unauthorized',
  '403 Forbidden',
  '404 Not Found',
  '500 Internal Server Error',
  '501 Not Implemented',
  '503 Service Unavailable',
]

const VALUES = [
  'Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT',
  'chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,',
  'publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.',
]

const counted = (word: string): Buffer => {
  const bytes = Buffer.alloc(4 + word.length)
  bytes.writeUInt32BE(word.length)
  bytes.write(word, 4, 'latin1')
  return bytes
}

/** 1,423 bytes. */
export const DICTIONARY: Buffer = Buffer.concat([
  ...[...COUNTED, ...COUNTED_END].map(counted),
  Buffer.from([...STATUSES, ...MORE_STATUSES, ...REASONS, ...VALUES].join(''), 'latin1'),
])

/** The checksum of zlib (RFC 1950), by which a stream names its dictionary. */
export const adler32 = (bytes: Uint8Array): number => {
  let low = 1
  let high = 0
  for (const byte of bytes) {
    low = (low + byte) % 65521
    high = (high + low) % 65521
  }
  return high * 65536 + low
}
