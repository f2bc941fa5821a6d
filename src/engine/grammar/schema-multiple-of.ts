/**
 * How many remainders the library tells apart for what must be a multiple: n for multiples of n, and all combinations of
 * them for several numbers that may stand at one place.
 *
 * Knows: digits. Must not know: which schemas meet; all of a document's count as if they did.
 */
import type { SchemaObject } from './keywords.js';
import { SchemaError } from './schema-error.js';
import type { Expansion } from './schema-expansion.js';

/** 10,000 take the library 0.14 s, 100,000 half a second and 300,000 more than its thread may be silent for. */
const MAX_REMAINDERS = 10_000;

/**
 * @param schemas checked (schema-check.ts)
 * @param expansion grows by what this document makes
 * @throws SchemaError where it becomes too much
 */
export function countMultiples(schemas: Iterable<SchemaObject>, expansion: Expansion): void {
  let all = 1;
  for (const { multipleOf } of schemas) {
    if (typeof multipleOf === 'number' && multipleOf !== 0) all = leastMultiple(all, digitsOf(multipleOf));
    if (all > MAX_REMAINDERS) break;
  }
  if (all > 1) expansion.remainders += all;
  if (expansion.remainders > MAX_REMAINDERS) {
    throw new SchemaError(
      `multipleOf must have a least common multiple of at most ${MAX_REMAINDERS}, over all that there are ` +
        `(digits without zeros at the end: 1200 and 0.012 are 12), got more`,
    );
  }
}

/** 1200, 12 and 0.012 are 12: places of decimals are no remainders. */
function digitsOf(value: number): number {
  const [digits = ''] = Math.abs(value).toExponential().split('e');
  return Number(digits.replace('.', ''));
}

function leastMultiple(a: number, b: number): number {
  let [divisor, rest] = [a, b];
  while (rest > 0) [divisor, rest] = [rest, divisor % rest];
  return (a / divisor) * b;
}
