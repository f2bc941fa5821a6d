/** Limits on the nesting and the number of a client's values. */

/**
 * Most levels of objects and arrays within each other. JSON.stringify and templates read values by recursion, and a
 * body is large enough for depths that overflow the stack. Schemas, which are parts of bodies, have a lower limit
 * (schema-limits.ts).
 */
export const MAX_NESTING = 100;

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
