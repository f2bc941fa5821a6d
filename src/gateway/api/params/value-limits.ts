/**
 * Limits of a client's values and schemas: nesting, number, size, vocabulary.
 *
 * Must not know: the meaning of a schema, which the engine checks.
 */
import { ApiError, invalid } from '../errors.js';
import { quoted } from '../../../util/quoted.js';

/** @throws ApiError invalid_value for an id outside of the vocabulary */
export function checkIds(param: string, ids: readonly number[], vocabulary: number): void {
  const wrong = ids.find((id) => id >= vocabulary);
  if (wrong !== undefined) throw invalid(param, `must hold token ids from 0 to ${vocabulary - 1}, got ${wrong}`);
}

/**
 * Most levels of objects and arrays within each other. JSON.stringify and templates read values by recursion, and a
 * body is large enough for depths that overflow the stack. Schemas, which are parts of bodies, have a lower limit.
 */
export const MAX_NESTING = 100;

/** Half a character, which no text may hold. */
export const LONE_SURROGATE = /\p{Surrogate}/u;

function isNested(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Whether a value holds more than MAX_NESTING levels of objects and arrays. The recursion stops at that depth. */
export function isTooDeep(value: unknown, most = MAX_NESTING): boolean {
  if (!isNested(value)) return false;
  if (most === 0) return true;
  const children: unknown[] = Array.isArray(value) ? value : Object.values(value);
  return children.some((child) => isTooDeep(child, most - 1));
}

/** Whether a value holds more than `most` values, itself included. The walk stops there. */
export function hasMoreValues(value: unknown, most: number): boolean {
  const left = [value];
  let seen = 1;
  while (left.length > 0 && seen <= most) {
    const each = left.pop();
    if (!isNested(each)) continue;
    const children: unknown[] = Array.isArray(each) ? each : Object.values(each);
    seen += children.length;
    if (seen <= most) for (const child of children) left.push(child);
  }
  return seen > most;
}

/** Most UTF-16 units: longer schemas and grammars take too long to compile. */
export const MAX_SCHEMA_UNITS = 32_768;
/** Most objects and arrays within each other: deeper schemas would overflow the stack of a reader. */
const MAX_DEPTH = 64;
/** Largest counted repetition. Compilation unrolls repetitions: 100,000 of them took seconds and all memory. */
const MAX_COUNT = 4096;
const COUNTS = new Set(['minItems', 'maxItems', 'minProperties', 'maxProperties', 'minLength', 'maxLength']);

/**
 * @param place of the schema, as the client wrote it
 * @returns the schema as text
 * @throws ApiError invalid_value for a schema that is too large, with `param`
 */
export function schemaText(schema: unknown, place: string, param: string): string {
  const reject = (rule: string): ApiError => new ApiError('invalid_value', `${place} ${rule}.`, param);
  if (isTooDeep(schema, MAX_DEPTH)) throw reject(`must be nested at most ${MAX_DEPTH} deep`);
  const text = JSON.stringify(schema, (key, value: unknown) => {
    if (!COUNTS.has(key) || typeof value !== 'number' || value <= MAX_COUNT) return value;
    throw reject(`must have ${key} of at most ${MAX_COUNT}, got ${quoted(value)}`);
  });
  if (text.length > MAX_SCHEMA_UNITS)
    throw reject(`must have at most ${MAX_SCHEMA_UNITS} characters, got ${text.length}`);
  return text;
}

/** Keywords whose value is data, not a schema. */
const DATA = new Set(['enum', 'const', 'default', 'examples']);
const MOST = new Set(['maxLength', 'maxItems', 'maxProperties']);

function loose(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(loose);
  if (!isNested(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, count]) => !(MOST.has(key) && typeof count === 'number' && count > MAX_COUNT))
      .map(([key, child]): [string, unknown] => [key, DATA.has(key) ? child : loose(child)]),
  );
}

/**
 * The schema of a tool. A grammar rejects large counts, and agents state such counts as hints: a script of at most
 * 524,288 characters.
 * @returns the schema without upper counts that no grammar can enforce; the schema of a strict tool is unchanged
 */
export function toolSchema(schema: Record<string, unknown>, isStrict: boolean): Record<string, unknown> {
  return isStrict ? schema : (loose(schema) as Record<string, unknown>);
}
