/** `cricket relabel`, from the sources. */
import { relabelCommand } from '../relabel-command.ts'

relabelCommand()
