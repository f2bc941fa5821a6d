/**
 * A grammar in the form that llguidance takes, and llguidance's errors as messages for a client.
 *
 * Must not know: threads, tokens.
 */
import { CALL } from '../../gateway/text/tool-form.js';
import type { CallsGrammar, Grammar } from '../../protocol/index.js';
import { checkSchema } from './schema-check.js';
import { SchemaError } from './schema-error.js';
import { normalSchema } from './schema-normal.js';
import { quoted } from '../../util/quoted.js';

export type LibraryGrammar =
  { readonly type: 'json_schema'; readonly schema: object } | { readonly type: 'lark'; readonly grammar: string };

/** On one line: small models can repeat white space forever, and the gateway finds the end of a call by its line. */
const OPTIONS = { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' };

/** @throws SchemaError */
function withOptions(schema: string): object {
  const given = JSON.parse(schema) as unknown;
  checkSchema(given);
  const json = normalSchema(given);
  // A schema may be `true`; the library's options need an object.
  const object = typeof json === 'object' && json !== null ? json : { anyOf: [json] };
  return { ...object, 'x-guidance': OPTIONS };
}

/** Lines before the rules of the functions; each rule is a line. The rule of an answer without calls follows them. */
const RULES_BEFORE = 3;

function larkOfCalls({ functions, most, answer }: CallsGrammar): string {
  const more = most > 1 ? ` (${JSON.stringify(CALL.between)} call){0,${most - 1}}` : '';
  const names = functions.map((_, index) => `f${index}`).join(' | ');
  const ofPart = (part: number, schema: string): string => JSON.stringify(schemaOfPart(part, schema));
  return [
    `start: calls${answer === undefined ? '' : ' | answer'}`,
    `calls: call${more}`,
    `call: ${JSON.stringify(CALL.open)} (${names}) ${JSON.stringify(CALL.close)}`,
    ...functions.map(
      ({ name, schema }, index) => `f${index}: ${JSON.stringify(name + CALL.middle)} %json ${ofPart(index, schema)}`,
    ),
    ...(answer === undefined ? [] : [`answer: %json ${ofPart(functions.length, answer)}`]),
  ].join('\n');
}

function schemaOfPart(part: number, schema: string): object {
  try {
    return withOptions(schema);
  } catch (error) {
    throw error instanceof SchemaError ? new SchemaError(error.message, part) : error;
  }
}

/** Lark delimits a pattern by slashes and ends a rule at a line break. */
function larkOfPattern(pattern: string): string {
  const escape = (each: string): string => (each === '/' ? '\\/' : each.endsWith('\n') ? '\\n' : each);
  return `start: /${pattern.replace(/\\[^]|[/\n]/g, escape)}/`;
}

/** As a pattern: the library holds at most 2,000 alternatives of a rule. */
function larkOfChoices(choices: readonly string[]): string {
  const literal = (text: string): string =>
    text.replace(/[^A-Za-z0-9]/gu, (each) => `\\x{${(each.codePointAt(0) ?? 0).toString(16)}}`);
  return larkOfPattern(choices.map(literal).join('|'));
}

/** @throws SchemaError for a schema with a keyword of a wrong kind */
export function libraryGrammar(grammar: Grammar): LibraryGrammar {
  switch (grammar.kind) {
    case 'json':
      return { type: 'json_schema', schema: withOptions(grammar.schema) };
    case 'calls':
      return { type: 'lark', grammar: larkOfCalls(grammar) };
    case 'regex':
      return { type: 'lark', grammar: larkOfPattern(grammar.pattern) };
    case 'choice':
      return { type: 'lark', grammar: larkOfChoices(grammar.choices) };
    case 'written':
      return { type: 'lark', grammar: grammar.grammar };
    case 'free':
      return { type: 'lark', grammar: 'start: /(?s:.*)/' };
  }
}

export interface InvalidGrammar {
  readonly message: string;
  /**
   * Index of the function whose schema has the fault, or their number for the schema of an answer without calls. Null
   * if the fault concerns the whole grammar.
   */
  readonly part: number | null;
}

/** This message names an option of the library that clients cannot set. */
const ONE_OF = /oneOf constraints are not supported\. Enable .*/;

/** The library's internal name for a grammar without any text. */
const NO_TEXT = /^NoExtensionBias$/;
const NO_VALUE = 'no JSON value fits it; a $ref that leads only to itself is one cause';

/** The message's first line. For a regular expression, also the reason, which follows on later lines. */
function firstOf(text: string): string {
  const [line = '', pattern = '', ...more] = text.split('\n');
  const reason = more.find((each) => each.startsWith('error: '))?.replace('error: ', '');
  if (!line.endsWith('regex parse error:') || reason === undefined) return line;
  // The library indents a pattern of one line, and prints longer patterns differently.
  return `${line} ${reason}${pattern.startsWith('    ') ? `, in ${quoted(pattern.trim())}` : ''}`;
}

/**
 * Maps an error of the library to an invalid grammar: the first fault, on one line.
 * @returns null for any error but a SchemaError or a string, which the library throws
 */
export function toInvalidGrammar(error: unknown, grammar: Grammar): InvalidGrammar | null {
  if (error instanceof SchemaError) return { message: error.message, part: error.part };
  if (typeof error !== 'string') return null;
  const text = firstOf(error)
    .replace(/^Failed to (compute mask|consume token): /, '')
    .replace(NO_TEXT, grammar.kind === 'json' || grammar.kind === 'calls' ? NO_VALUE : 'no text fits it')
    .replace(ONE_OF, "oneOf is supported only if its branches can't overlap; use anyOf");
  // A message about Lark starts with the place: "at 4(5): failed to compile JSON schema: ...". It stays if the client
  // wrote the Lark.
  const isPlaced = grammar.kind !== 'json' && grammar.kind !== 'written';
  const place = isPlaced ? /^(?:at )?(\d+)\(\d+\): (?:failed to compile JSON schema: )?(.*)$/.exec(text) : null;
  const part = grammar.kind === 'calls' ? Number(place?.[1]) - 1 - RULES_BEFORE : -1;
  return { message: (place?.[2] ?? text).slice(0, 200), part: part >= 0 ? part : null };
}
