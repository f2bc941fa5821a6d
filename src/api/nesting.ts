/**
 * How deep a caller's values may be nested.
 *
 * Knows: objects and arrays. Must not know: what they mean.
 */

/**
 * Objects and arrays within each other. What reads values without such a limit does so by recursion (JSON.stringify,
 * templates), and a body has room for depths that overflow the stack. Schemas, which are parts of bodies, have a lower
 * one (schema-limits.ts).
 */
export const MAX_NESTING = 100;

function isNested(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Whether a value holds more than MAX_NESTING levels of objects and arrays. Level by level: no stack to overflow. */
export function isTooDeep(value: unknown): boolean {
  let level = [value].filter(isNested);
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MAX_NESTING) return true;
    level = level.flatMap((each) => (Array.isArray(each) ? each : Object.values(each)).filter(isNested));
  }
  return false;
}
