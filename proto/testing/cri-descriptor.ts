/**
 * What cri/api.proto says, as data for tests: read from the descriptor that buf compiles, so that no second parser of
 * protobuf has to be right.
 */

import { runBuf } from '../run-buf.ts'

export interface CriField {
  name: string
  /** The property's name in generated code. */
  property: string
  number: number
  /** As written in the file, for example "repeated string" or "map<string, string>". */
  type: string
  kind: 'scalar' | 'enum' | 'message' | 'map'
  repeated: boolean
  /** Scalar type, or name of the enum or message; of a map, its entry message. */
  of: string
  deprecated: boolean
  redacted: boolean
  comment: string
}

export interface CriMethod {
  name: string
  request: string
  response: string
  streams: boolean
  comment: string
}

export interface CriDescriptor {
  services: Map<string, { comment: string; methods: CriMethod[] }>
  /** Nested names are written with a dot, as in "SecurityProfile.ProfileType". */
  enums: Map<string, { comment: string; values: Map<string, number> }>
  messages: Map<string, { comment: string; fields: CriField[] }>
}

interface RawField {
  name: string
  jsonName: string
  number: number
  label: string
  type: string
  typeName?: string
  options?: { deprecated?: boolean; debugRedact?: boolean }
}
interface RawEnum {
  name: string
  value: { name: string; number?: number }[]
}
interface RawMessage {
  name: string
  field?: RawField[]
  nestedType?: (RawMessage & { options?: { mapEntry?: boolean } })[]
  enumType?: RawEnum[]
}
interface RawMethod {
  name: string
  inputType: string
  outputType: string
  serverStreaming?: boolean
}
interface RawFile {
  package: string
  messageType: RawMessage[]
  enumType: RawEnum[]
  service: { name: string; method: RawMethod[] }[]
  sourceCodeInfo: { location: { path?: number[]; leadingComments?: string }[] }
}

// Numbers of FileDescriptorProto's and its parts' fields, of which a comment's path consists.
const inFile = { message: 4, enum: 5, service: 6 }
const inMessage = { field: 2, enum: 4 }
const inService = { method: 2 }

const scalarName = (type: string): string => type.slice('TYPE_'.length).toLowerCase()

class Reader {
  readonly #prefix: string
  readonly #comments: Map<string, string>

  constructor(file: RawFile) {
    this.#prefix = `.${file.package}.`
    this.#comments = new Map(
      file.sourceCodeInfo.location.map(({ path, leadingComments }) => [
        (path ?? []).join('.'),
        leadingComments?.trim() ?? '',
      ]),
    )
  }

  comment(...path: number[]): string {
    return this.#comments.get(path.join('.')) ?? ''
  }

  local(typeName: string): string {
    return typeName.startsWith(this.#prefix) ? typeName.slice(this.#prefix.length) : typeName
  }

  field(raw: RawField, message: RawMessage, comment: string): CriField {
    const list = raw.label === 'LABEL_REPEATED'
    const of = raw.typeName === undefined ? scalarName(raw.type) : this.local(raw.typeName)
    const entry = message.nestedType?.find(
      ({ name, options }) => options?.mapEntry === true && of === `${message.name}.${name}`,
    )
    const kind = raw.type === 'TYPE_ENUM' ? 'enum' : raw.type === 'TYPE_MESSAGE' ? 'message' : 'scalar'
    const single = of.startsWith(`${message.name}.`) ? of.slice(message.name.length + 1) : of
    const [key, value] = entry?.field?.map(({ type, typeName }) => this.local(typeName ?? scalarName(type))) ?? []
    return {
      name: raw.name,
      property: raw.jsonName,
      number: raw.number,
      type: entry ? `map<${key}, ${value}>` : list ? `repeated ${single}` : single,
      kind: entry ? 'map' : kind,
      repeated: list && entry === undefined,
      of,
      deprecated: raw.options?.deprecated === true,
      redacted: raw.options?.debugRedact === true,
      comment,
    }
  }
}

const enumValues = (raw: RawEnum): Map<string, number> =>
  new Map(raw.value.map(({ name, number }) => [name, number ?? 0]))

/** Compiles cri/api.proto and describes it. */
export const readCriDescriptor = async (): Promise<CriDescriptor> => {
  const image: { file: RawFile[] } = JSON.parse(await runBuf(['build', '--output', '-#format=json']))
  const file = image.file.find((each) => each.package === 'runtime.v1')
  if (file === undefined) throw new Error("no file of package 'runtime.v1' in the descriptor")
  const reader = new Reader(file)
  const described: CriDescriptor = { services: new Map(), enums: new Map(), messages: new Map() }

  for (const [i, service] of file.service.entries()) {
    const methods = service.method.map((method, j) => ({
      name: method.name,
      request: reader.local(method.inputType),
      response: reader.local(method.outputType),
      streams: method.serverStreaming === true,
      comment: reader.comment(inFile.service, i, inService.method, j),
    }))
    described.services.set(service.name, { comment: reader.comment(inFile.service, i), methods })
  }
  for (const [i, each] of file.enumType.entries())
    described.enums.set(each.name, { comment: reader.comment(inFile.enum, i), values: enumValues(each) })
  for (const [i, message] of file.messageType.entries()) {
    const fields = (message.field ?? []).map((field, j) =>
      reader.field(field, message, reader.comment(inFile.message, i, inMessage.field, j)),
    )
    described.messages.set(message.name, { comment: reader.comment(inFile.message, i), fields })
    for (const [k, each] of (message.enumType ?? []).entries())
      described.enums.set(`${message.name}.${each.name}`, {
        comment: reader.comment(inFile.message, i, inMessage.enum, k),
        values: enumValues(each),
      })
  }
  return described
}
