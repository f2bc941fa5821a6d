/**
 * How deep a caller's values may be nested, and how many there are.
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

/** Whether a value holds more than MAX_NESTING levels of objects and arrays: its own recursion ends there. */
export function isTooDeep(value: unknown, most = MAX_NESTING): boolean {
  if (!isNested(value)) return false;
  if (most === 0) return true;
  const children: unknown[] = Array.isArray(value) ? value : Object.values(value);
  return children.some((child) => isTooDeep(child, most - 1));
}

/** Whether there are more than that many values in one, itself counted. What lies beyond is not looked at. */
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
