/** Changes fields at the top of a JSON text, and keeps every other byte. */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN: ReadonlySet<number> = new Set([0x5b, 0x7b]);
const CLOSE: ReadonlySet<number> = new Set([0x5d, 0x7d]);
/** Stand between a key and its value. */
const COLON = 0x3a;
const BETWEEN: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d, COLON]);

/** The index behind the string that begins at `start`. */
export function stringEnd(json: string, start: number): number {
  for (let at = start + 1; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code === QUOTE) return at + 1;
  }
  return json.length;
}

/** The index of the value behind a key that ends at `end`; null for a string that is no key. */
function valueStart(json: string, end: number): number | null {
  let at = end;
  let isKey = false;
  for (; BETWEEN.has(json.charCodeAt(at)); at++) isKey ||= json.charCodeAt(at) === COLON;
  return isKey ? at : null;
}

/**
 * @param json an object
 * @param values new texts, by field
 * @returns the JSON with these texts in place of the texts of its own fields; a field that is absent or no text stays
 * so
 */
export function withTexts(json: string, values: Readonly<Record<string, string>>): string {
  const texts = new Map(Object.entries(values));
  let out = '';
  let taken = 0;
  let depth = 0;
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (OPEN.has(code)) depth++;
    else if (CLOSE.has(code)) depth--;
    if (code !== QUOTE) continue;
    const end = stringEnd(json, at);
    const start = depth === 1 ? valueStart(json, end) : null;
    const value = start === null ? undefined : texts.get(json.slice(at + 1, end - 1));
    at = end - 1;
    if (start === null || value === undefined || json.charCodeAt(start) !== QUOTE) continue;
    out += json.slice(taken, start) + JSON.stringify(value);
    taken = stringEnd(json, start);
    at = taken - 1;
  }
  return out + json.slice(taken);
}

/** The fields of an object, but for these. */
export function without(
  fields: Readonly<Record<string, unknown>>,
  ...names: readonly string[]
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}
