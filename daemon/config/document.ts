/**
 * The configuration as text for people: the one in effect, the default one with explanations, and the page
 * docs/configuration.md. All three are made from the schema.
 */
import { Document, isMap, isScalar, stringify, type YAMLMap } from 'yaml'
import { DEFAULT_CONFIG_FILE, defaultConfig } from './load.ts'
import { configSchema, keyText, type SchemaNode } from './problems.ts'
import type { Config } from './schema.ts'

/** The configuration as YAML that loadConfig reads back to the same configuration. */
export const renderConfig = (config: Config): string => stringify(config, { lineWidth: 0 })

const COMMENT_COLUMNS = 98

/** Breaks a description into lines of comment, each with the blank that follows `#`. */
const commentLines = (text: string): string => {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line.length + word.length + 1 > COMMENT_COLUMNS) lines.push(` ${word}`)
    else lines[lines.length - 1] = `${line} ${word}`
  }
  return lines.join('\n')
}

const explain = (map: YAMLMap, schema: SchemaNode): void => {
  for (const [index, pair] of map.items.entries()) {
    if (!isScalar(pair.key)) continue
    const node = schema.properties?.[String(pair.key.value)]
    if (node === undefined) continue
    if (node.description !== undefined) pair.key.commentBefore = commentLines(allowedText(node))
    pair.key.spaceBefore = index > 0
    if (isMap(pair.value)) explain(pair.value, node)
  }
}

const allowedText = (node: SchemaNode): string =>
  node.enum === undefined ? `${node.description}` : `${node.description} One of: ${node.enum.join(', ')}.`

/** The default configuration with the description of every key as a comment above it. */
export const renderDefaultConfig = (): string => {
  const document = new Document(defaultConfig())
  if (isMap(document.contents)) explain(document.contents, configSchema())
  return document.toString({ lineWidth: 0 })
}

interface Row {
  key: string
  type: string
  defaultText: string
  description: string
}

const typeText = (node: SchemaNode): string => {
  if (node.enum !== undefined) return node.enum.map((word) => `\`${word}\``).join(' or ')
  return node.type === 'array' ? 'list of strings' : (node.type ?? '')
}

const rowsOf = (node: SchemaNode, path: readonly string[]): Row[] => {
  const rows: Row[] = []
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    const at = [...path, name]
    if (child.properties !== undefined) rows.push(...rowsOf(child, at))
    else if (typeof child.additionalProperties === 'object') {
      rows.push({ key: keyText(at), type: 'mapping', defaultText: '', description: child.description ?? '' })
      rows.push(...rowsOf(child.additionalProperties, [...at, '<name>']))
    } else {
      const defaultText = child.default === undefined ? '' : `\`${JSON.stringify(child.default)}\``
      rows.push({ key: keyText(at), type: typeText(child), defaultText, description: child.description ?? '' })
    }
  }
  return rows
}

const cell = (text: string): string => text.replaceAll('|', '\\|')

/** The text of docs/configuration.md. */
export const configurationPage = (): string => {
  const rows = rowsOf(configSchema(), [])
  const table = rows.map(
    (row) => `| \`${row.key}\` | ${row.type} | ${cell(row.defaultText)} | ${cell(row.description)} |`,
  )
  return `# Configuration

<!-- Generated from daemon/config/schema.ts by \`node daemon/config/write-page.ts\`; a test checks that it is current. -->

Cricket reads \`${DEFAULT_CONFIG_FILE}\`, which may be absent, or the file named by \`--config\`, which must exist. Then come
the drop-ins: \`config.d/*.yaml\` in the directory of that file, in the order of their names. Mappings are merged key by key;
lists and single values replace. Flags come last: \`--root\`, \`--state\`, \`--listen\`, \`--log-level\`, written \`--root X\` or
\`--root=X\`.

An unknown key, a wrong type or a value that is not allowed keeps the daemon from starting. All problems are reported at once,
each with its file and line. A section without any key in it (all commented out) counts as absent; a file without a single
character does not, for that is what an interrupted write leaves behind.

On SIGHUP the files are read again: \`logLevel\`, \`runtimes.handlers\` and \`image.insecureRegistries\` take effect while pods run. Other
keys that have changed are named in the log and wait for a restart; a broken configuration changes nothing.

\`cricket config\` prints the configuration in effect, \`cricket config --default\` the defaults with their explanations.

| Key | Type | Default | Meaning |
|---|---|---|---|
${table.join('\n')}
`
}
