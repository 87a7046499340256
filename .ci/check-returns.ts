/**
 * Finds promises that are returned without `await` out of a scope that cleans up: one with `using`, or a `try`. The clean-up
 * runs, or the `catch` is left, before the promise is settled, and nothing else notices.
 */
import { relative, resolve } from 'node:path'
import ts from 'typescript'

const top = resolve(import.meta.dirname, '..')

/** Why a return has to wait, innermost first; undefined: it need not. */
type Scope = { cleansUp: 'using' | 'try' | undefined }

const isUsing = (node: ts.Node): boolean =>
  ts.isVariableStatement(node) && (node.declarationList.flags & ts.NodeFlags.Using) === ts.NodeFlags.Using

function problemsOf(file: ts.SourceFile, checker: ts.TypeChecker): string[] {
  const problems: string[] = []
  const isPromise = (node: ts.Expression): boolean => {
    const type = checker.getTypeAtLocation(node)
    return (type.isUnion() ? type.types : [type]).some((each) => each.getProperty('then') !== undefined)
  }
  const check = (node: ts.ReturnStatement, { cleansUp }: Scope) => {
    const { expression } = node
    if (!cleansUp || !expression || ts.isAwaitExpression(expression) || !isPromise(expression)) return
    const { line } = file.getLineAndCharacterOfPosition(node.getStart())
    const [text] = node.getText().split('\n')
    problems.push(`${relative(top, file.fileName)}:${line + 1}: in the scope of a "${cleansUp}": ${text}`)
  }
  const visitAll = (node: ts.Node, scope: Scope) => ts.forEachChild(node, (child) => visit(child, scope))
  const visitTry = ({ tryBlock, catchClause, finallyBlock }: ts.TryStatement, scope: Scope) => {
    visit(tryBlock, { cleansUp: 'try' })
    if (catchClause) visit(catchClause, finallyBlock ? { cleansUp: 'try' } : scope)
    if (finallyBlock) visit(finallyBlock, scope)
  }
  const visit = (node: ts.Node, scope: Scope): void => {
    if (ts.isFunctionLike(node)) visitAll(node, { cleansUp: undefined })
    else if (ts.isTryStatement(node)) visitTry(node, scope)
    else if (ts.isBlock(node)) visitAll(node, { ...scope })
    else {
      if (isUsing(node)) scope.cleansUp = 'using'
      if (ts.isReturnStatement(node)) check(node, scope)
      visitAll(node, scope)
    }
  }
  visit(file, { cleansUp: undefined })
  return problems
}

const config = ts.readConfigFile(`${top}/tsconfig.json`, ts.sys.readFile)
const { fileNames, options } = ts.parseJsonConfigFileContent(config.config, ts.sys, top)
const program = ts.createProgram(fileNames, { ...options, noEmit: true, incremental: false })
const checker = program.getTypeChecker()
const own = program
  .getSourceFiles()
  .filter((file) => !file.isDeclarationFile && !file.fileName.includes('/node_modules/'))
const problems = own.flatMap((file) => problemsOf(file, checker))
for (const problem of problems) console.error(problem)
process.exitCode = problems.length > 0 ? 1 : 0
