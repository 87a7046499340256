/**
 * Which part may know which other part, read from the imports of all sources. The picture behind the arrows is in
 * docs/architecture.md; a new arrow is a decision, made here where reviewers see it.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { before, test } from 'node:test'
import ts from 'typescript'

const ROOT = join(import.meta.dirname, '..')
const FOLDERS = ['proto', 'storage', 'image', 'conmon', 'daemon', 'e2e', '.ci']

/** The import map of package.json, as paths from the repository's root. */
const ALIASES: Record<string, string> = {
  '#proto/': 'proto/',
  '#linux/': 'storage/linux/',
  '#storage/': 'storage/',
  '#image/': 'image/',
}

interface Import {
  from: string
  /** A path from the root for our own files, a package name or `node:…` otherwise. */
  to: string
  isOurs: boolean
  /** Gone when the types are: nothing of it is there at run time. */
  isTypeOnly: boolean
  isRelative: boolean
}

interface Source {
  file: string
  text: string
  imports: Import[]
}

type Rule = (edge: Import) => string | undefined

const isTest = (file: string): boolean => /\.test\.ts$|\/testing\/|\.mjs$/.test(file)
const isWithin = (file: string, ...folders: string[]): boolean =>
  folders.some((folder) => file.startsWith(`${folder}/`))

/** storage/linux counts as a part of its own. */
const partOf = (file: string): string =>
  isWithin(file, 'storage/linux') ? 'storage/linux' : (file.split('/', 1)[0] ?? file)

const packageOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')

const targetOf = (from: string, specifier: string): Pick<Import, 'to' | 'isOurs' | 'isRelative'> => {
  if (specifier.startsWith('.')) {
    return { to: posix.join(posix.dirname(from), specifier), isOurs: true, isRelative: true }
  }
  const alias = Object.keys(ALIASES).find((prefix) => specifier.startsWith(prefix))
  if (alias !== undefined) {
    return { to: `${ALIASES[alias]}${specifier.slice(alias.length)}`, isOurs: true, isRelative: false }
  }
  return { to: specifier.startsWith('node:') ? specifier : packageOf(specifier), isOurs: false, isRelative: false }
}

/** Every `import`, `export … from`, `import()` and `import type` of a file. */
const importsOf = (file: string, text: string): Import[] => {
  const found: Import[] = []
  const add = (specifier: ts.Node | undefined, isTypeOnly: boolean): void => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return
    found.push({ from: file, isTypeOnly, ...targetOf(file, specifier.text) })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, node.importClause?.isTypeOnly === true)
    if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly)
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true)
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest))
  return found
}

const readSources = (): Source[] =>
  FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|mjs)$/.test(name) && !name.split('/').includes('testdata'))
      .map((name) => {
        const file = posix.join(folder, name)
        const text = readFileSync(join(ROOT, file), 'utf8')
        return { file, text, imports: importsOf(file, text) }
      }),
  )

let sources: Source[] = []
before(() => {
  sources = readSources()
})

const violations = (rule: Rule, files: (file: string) => boolean = () => true): string[] =>
  sources
    .filter(({ file }) => files(file))
    .flatMap(({ imports }) =>
      imports.flatMap((edge) => {
        const why = rule(edge)
        return why === undefined ? [] : [`${edge.from} imports ${edge.to}: ${why}`]
      }),
    )

/** For each part: which parts it may import besides itself. */
const ARROWS: Record<string, readonly string[]> = {
  proto: [],
  'storage/linux': ['proto'],
  storage: ['proto', 'storage/linux'],
  image: ['proto', 'storage', 'storage/linux'],
  conmon: ['proto', 'storage/linux'],
  daemon: ['proto', 'storage', 'storage/linux', 'image'],
  e2e: ['proto'],
}

test('every part imports only the parts below it', () => {
  const rule: Rule = ({ from, to, isOurs }) => {
    const part = partOf(from)
    const allowed = ARROWS[part]
    if (!isOurs || allowed === undefined) return undefined
    const target = partOf(to)
    return target === part || allowed.includes(target) ? undefined : `${part} may not depend on ${target}`
  }
  assert.deepEqual(violations(rule), [])
})

test('another part is imported by its alias, the own one by a relative path', () => {
  const rule: Rule = ({ from, to, isOurs, isRelative }) => {
    if (!isOurs) return undefined
    const isSame = partOf(from) === partOf(to)
    if (isRelative && !isSame && partOf(from) in ARROWS && partOf(from) !== 'e2e')
      return 'use the alias with "#" for another part'
    return !isRelative && isSame ? 'use a relative path within a part' : undefined
  }
  assert.deepEqual(violations(rule), [])
})

test('gRPC is known to daemon/cri alone, and daemon/cri to the composition root alone', () => {
  const rule: Rule = ({ from, to }) => {
    if (to === '@grpc/grpc-js' && !isWithin(from, 'daemon/cri', 'proto/generated', 'e2e'))
      return 'only daemon/cri speaks gRPC'
    const isRoot = from === 'daemon/main.ts' || from === 'daemon/daemon.ts'
    return isWithin(to, 'daemon/cri') && !isWithin(from, 'daemon/cri') && !isRoot
      ? 'only daemon/main.ts and daemon/daemon.ts may know the CRI adapters'
      : undefined
  }
  assert.deepEqual(violations(rule), [])
})

test('proto holds words, no input or output and no packages but those of the generated code', () => {
  const tools = new Set(['proto/generate.ts', 'proto/run-buf.ts'])
  const rule: Rule = ({ from, isOurs, to }) =>
    isOurs || isWithin(from, 'proto/generated') ? undefined : `proto is pure and may not use ${to}`
  assert.deepEqual(
    violations(rule, (file) => isWithin(file, 'proto') && !isTest(file) && !tools.has(file)),
    [],
  )
})

/** Everything that is loaded at run time when these files are, with the file that asked for it. */
const reachedFrom = (entries: readonly string[]): Import[] => {
  const byFile = new Map(sources.map((source) => [source.file, source.imports]))
  const edges: Import[] = []
  const seen = new Set(entries)
  for (const file of seen) {
    for (const edge of byFile.get(file) ?? []) {
      if (edge.isTypeOnly) continue
      edges.push(edge)
      if (edge.isOurs) seen.add(edge.to)
    }
  }
  return edges
}

test('the monitor loads node: modules, its own files, proto/conmon.ts, proto/errors.ts and single files of storage/linux', () => {
  const words = new Set(['proto/conmon.ts', 'proto/errors.ts'])
  // These load everything there is, and the monitor is paid for once per container.
  const wholes = new Set(['storage/linux/linux.ts', 'storage/linux/recording-linux.ts'])
  const entries = sources.map(({ file }) => file).filter((file) => isWithin(file, 'conmon') && !isTest(file))
  const bad = reachedFrom(entries).filter(({ to, isOurs }) => {
    if (!isOurs) return !to.startsWith('node:')
    return wholes.has(to) || !(isWithin(to, 'conmon', 'storage/linux') || words.has(to))
  })
  assert.deepEqual(
    bad.map(({ from, to }) => `${from} imports ${to}: the monitor may not load it`),
    [],
  )
})

test('e2e works on built programs: of our sources it may import the words that processes share only', () => {
  const isKnown = (to: string) => isWithin(to, 'e2e', 'proto/generated') || to === 'proto/conmon.ts'
  const rule: Rule = ({ from, to, isOurs }) =>
    isOurs && isWithin(from, 'e2e') && !isKnown(to) ? 'e2e tests built programs' : undefined
  assert.deepEqual(violations(rule), [])
})

test('processes are started in few places', () => {
  const starters = new Set([
    'storage/linux/run-command.ts',
    'storage/linux/run-with-pipes.ts',
    'storage/linux/connected-program.ts',
    'conmon/runtime.ts',
    'daemon/monitor/launch-monitor.ts',
    'storage/tar/unpack-process.ts',
    'storage/linux/linux.ts',
    'proto/generate.ts',
    'proto/run-buf.ts',
  ])
  const rule: Rule = ({ to, isTypeOnly }) =>
    ['node:child_process', 'child_process', 'execa', 'storage/linux/spawn-program.ts'].includes(to) && !isTypeOnly
      ? 'start programs through storage/linux/run-command.ts'
      : undefined
  const isProduct = (file: string) => !isTest(file) && !starters.has(file) && !isWithin(file, 'e2e', '.ci')
  assert.deepEqual(violations(rule, isProduct), [])
})

test('zod is imported as a namespace: by name it brings every locale, 9 MB of memory', () => {
  const named = sources.filter(({ text }) =>
    /import\s*\{[^}]*\}\s*from\s*['"]zod['"]/.test(text.replaceAll(/`[^`]*`/g, '')),
  )
  assert.deepEqual(
    named.map(({ file }) => `${file} imports { … } from zod: write import * as z`),
    [],
  )
})

test('no decision is made by the text of an error', () => {
  const byText = sources
    .filter(({ file }) => !isTest(file) && !isWithin(file, 'e2e', '.ci'))
    .flatMap(({ file, text }) =>
      text.split('\n').flatMap((line, index) => {
        const found = /\.message\s*\??\.(includes|match|startsWith|endsWith|indexOf|search)\(/.exec(line)
        return found === null ? [] : [`${file}:${index + 1} looks at ${found[0]}…): use kind or code`]
      }),
    )
  assert.deepEqual(byText, [])
})

test('the reader of imports sees every way to import', () => {
  const text = `
    import a from './a.ts'
    import type { B } from '#proto/b.ts'
    import { type C } from '#linux/c.ts'
    export { d } from '../d.ts'
    export type { E } from '@grpc/grpc-js/build/x.js'
    const f = await import('node:child_process')
    type G = import('#image/g.ts').G
    import './h.ts'`
  const seen = importsOf('storage/x/y.ts', text).map(({ to, isTypeOnly }) => `${isTypeOnly ? 'type ' : ''}${to}`)
  assert.deepEqual(seen, [
    'storage/x/a.ts',
    'type proto/b.ts',
    'storage/linux/c.ts',
    'storage/d.ts',
    'type @grpc/grpc-js',
    'node:child_process',
    'type image/g.ts',
    'storage/x/h.ts',
  ])
})
