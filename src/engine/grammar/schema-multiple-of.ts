/**
 * Counts the remainders that the library distinguishes for `multipleOf`: n for multiples of n, and all combinations if
 * several `multipleOf` apply to one number. All `multipleOf` of a document count as if they applied to the same number.
 */
import type { SchemaObject } from './keywords.js';
import { SchemaError } from './schema-error.js';
import type { Expansion } from './schema-expansion.js';

/** The library takes 0.14 s for 10,000 remainders, 0.5 s for 100,000, and exceeds the watchdog's 10 s at 300,000. */
const MAX_REMAINDERS = 10_000;

/**
 * @param schemas checked (schema-check.ts)
 * @param expansion grows by the remainders of this document
 * @throws SchemaError above MAX_REMAINDERS
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

/** 1200, 12 and 0.012 give 12: decimal places add no remainders. */
function digitsOf(value: number): number {
  const [digits = ''] = Math.abs(value).toExponential().split('e');
  return Number(digits.replace('.', ''));
}

function leastMultiple(a: number, b: number): number {
  let divisor = a;
  let rest = b;
  while (rest > 0) [divisor, rest] = [rest, divisor % rest];
  return (a / divisor) * b;
}
