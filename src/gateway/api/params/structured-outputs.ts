/**
 * The grammar of an answer: OpenAI's `response_format`, and vLLM's `structured_outputs`. Must not know: how grammars
 * work.
 */
import type { Grammar } from '../../../protocol/index.js';
import { invalid } from '../errors.js';
import type { GenerationBody, ResponseFormat } from '../schemas/shared.js';
import { quoted } from '../../../util/quoted.js';
import { isTooDeep, LONE_SURROGATE, MAX_NESTING, MAX_SCHEMA_UNITS, schemaText } from './value-limits.js';

/** The grammar of an answer, and the parameter that states it. */
export interface PlannedGrammar {
  readonly grammar: Grammar;
  /** The parameter at fault if the grammar cannot be enforced. @param part index of a function, if it is known */
  placeOf(part: number | null): string;
}

/** @throws ApiError invalid_value for a text that is too long or holds half a character */
function checkedText(text: string, param: string): string {
  if (text.length > MAX_SCHEMA_UNITS)
    throw invalid(param, `must have at most ${MAX_SCHEMA_UNITS} characters, got ${text.length}`);
  if (LONE_SURROGATE.test(text)) throw invalid(param, 'must hold whole characters, got a lone UTF-16 surrogate');
  return text;
}

/** @param schema a JSON schema, or its text */
function jsonGrammar(schema: unknown, param: string): Grammar {
  let value = schema;
  if (typeof schema === 'string') {
    checkedText(schema, param);
    try {
      value = JSON.parse(schema);
    } catch {
      throw invalid(param, `must be a JSON schema, or its text, got ${quoted(schema)}`);
    }
    // The schema is text within the body, so the body's own check has not seen its depth.
    if (isTooDeep(value)) throw invalid(param, `must be nested at most ${MAX_NESTING} deep`);
  }
  return { kind: 'json', schema: schemaText(value, param, param) };
}

function choiceGrammar(choices: readonly string[], param: string): Grammar {
  const length = choices.reduce((sum, each) => sum + checkedText(each, param).length, 0);
  if (length > MAX_SCHEMA_UNITS)
    throw invalid(param, `must have at most ${MAX_SCHEMA_UNITS} characters in all, got ${length}`);
  return { kind: 'choice', choices };
}

function formatGrammar(format: Exclude<ResponseFormat, { type: 'text' }>, param: string): Grammar {
  const [schema, place] =
    format.type === 'json_schema'
      ? [format.json_schema.schema, `${param}.json_schema.schema`]
      : [format.schema ?? { type: 'object' }, `${param}.schema`];
  return { kind: 'json', schema: schemaText(schema, place, param) };
}

const ofKind = {
  json: jsonGrammar,
  regex: (pattern: string, param: string): Grammar => ({ kind: 'regex', pattern: checkedText(pattern, param) }),
  choice: choiceGrammar,
  grammar: (text: string, param: string): Grammar => ({ kind: 'written', grammar: checkedText(text, param) }),
};

/**
 * @returns null for any text
 * @throws ApiError invalid_value for two grammars, or one that is too large
 */
export function answerGrammar(body: GenerationBody): PlannedGrammar | null {
  const found: { readonly param: string; plan(): PlannedGrammar }[] = [];
  const add = <T>(param: string, value: T | undefined, grammarOf: (value: T, param: string) => Grammar): void => {
    if (value === undefined) return;
    found.push({ param, plan: () => ({ grammar: grammarOf(value, param), placeOf: () => param }) });
  };
  const { response_format: format, structured_outputs: outputs = {} } = body;
  if (format?.type !== 'text') add('response_format', format, formatGrammar);
  const own = 'structured_outputs';
  add(`${own}.json`, outputs.json, ofKind.json);
  if (outputs.json_object === true) add(`${own}.json_object`, { type: 'object' }, ofKind.json);
  add(`${own}.regex`, outputs.regex, ofKind.regex);
  add(`${own}.choice`, outputs.choice, ofKind.choice);
  add(`${own}.grammar`, outputs.grammar, ofKind.grammar);
  const [first, second] = found;
  if (body.structured_outputs !== undefined && !found.some(({ param }) => param.startsWith(own)))
    throw invalid(own, 'must have one of json, json_object, regex, choice and grammar');
  if (first === undefined) return null;
  if (second === undefined) return first.plan();
  throw invalid(second.param, `cannot be combined with ${first.param}: an answer can follow only one grammar`);
}
