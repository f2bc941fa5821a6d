/**
 * Schemas of tools whose client does not ask for strict calls.
 *
 * A grammar unrolls counted repetitions, so schema-limits.ts rejects large counts. Agents state such counts as hints: a
 * script of at most 524,288 characters.
 */

/** Keywords whose value is data, not a schema. */
const DATA = new Set(['enum', 'const', 'default', 'examples']);
const MOST = new Set(['maxLength', 'maxItems', 'maxProperties']);
/** Largest count that a grammar enforces (schema-limits.ts). */
const MAX_COUNT = 4096;

function loose(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(loose);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, count]) => !(MOST.has(key) && typeof count === 'number' && count > MAX_COUNT))
      .map(([key, child]): [string, unknown] => [key, DATA.has(key) ? child : loose(child)]),
  );
}

/** @returns the schema without upper counts that no grammar can enforce; the schema of a strict tool is unchanged */
export function toolSchema(schema: Record<string, unknown>, isStrict: boolean): Record<string, unknown> {
  return isStrict ? schema : (loose(schema) as Record<string, unknown>);
}
