/**
 * A grammar in the form that llguidance takes, and llguidance's errors as messages for a client.
 *
 * Must not know: threads, tokens.
 */
import { CALL } from '../../gateway/text/tool-form.js';
import type { CallsGrammar, Grammar } from '../../protocol/index.js';
import { GrammarError } from './errors.js';
import { checkSchema, normalSchema } from './schema.js';
import { quoted } from '../../util/quoted.js';

export type LibraryGrammar =
  { readonly type: 'json_schema'; readonly schema: object } | { readonly type: 'lark'; readonly grammar: string };

/** On one line: small models can repeat white space forever, and the gateway finds the end of a call by its line. */
const OPTIONS = { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' };

/** @param part of the grammar @throws GrammarError */
function librarySchema(schema: string, part: number | null = null): object {
  const given = JSON.parse(schema) as unknown;
  checkSchema(given, part);
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
  const json = (schema: string, part: number): string => `%json ${JSON.stringify(librarySchema(schema, part))}`;
  return [
    `start: calls${answer === undefined ? '' : ' | answer'}`,
    `calls: call${more}`,
    `call: ${JSON.stringify(CALL.open)} (${names}) ${JSON.stringify(CALL.close)}`,
    ...functions.map(
      ({ name, schema }, index) => `f${index}: ${JSON.stringify(name + CALL.middle)} ${json(schema, index)}`,
    ),
    ...(answer === undefined ? [] : [`answer: ${json(answer, functions.length)}`]),
  ].join('\n');
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

/** @throws GrammarError for a schema with a keyword of a wrong kind */
export function libraryGrammar(grammar: Grammar): LibraryGrammar {
  switch (grammar.kind) {
    case 'json':
      return { type: 'json_schema', schema: librarySchema(grammar.schema) };
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
 * The first fault of a grammar, on one line, from an error of the library.
 * @returns null for any error but a GrammarError or a string, which the library throws
 */
export function grammarErrorOf(error: unknown, grammar: Grammar): GrammarError | null {
  if (error instanceof GrammarError) return error;
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
  return new GrammarError((place?.[2] ?? text).slice(0, 200), part >= 0 ? part : null);
}
