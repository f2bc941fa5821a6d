/** Changes fields at the top of a JSON text, and keeps every other byte. */

const QUOTE = '"';
const isBlank = (character: string | undefined): boolean => character !== undefined && ' \t\n\r'.includes(character);

/** The index behind the string that begins at `start`. */
function stringEnd(json: string, start: number): number {
  for (let at = start + 1; at < json.length; at++) {
    if (json[at] === '\\') at++;
    else if (json[at] === QUOTE) return at + 1;
  }
  return json.length;
}

/** The index of the value behind a key that ends at `end`; null for a string that is no key. */
function valueStart(json: string, end: number): number | null {
  let at = end;
  while (isBlank(json[at])) at++;
  if (json[at] !== ':') return null;
  at++;
  while (isBlank(json[at])) at++;
  return at;
}

/** Where texts were replaced in a JSON. */
interface Replaced {
  readonly json: string;
  /** Length of the part, old and new, that ends behind the last text; null if a field is absent. */
  readonly head: { readonly old: number; readonly new: number } | null;
}

function replaced(json: string, values: Readonly<Record<string, string>>): Replaced {
  let left = Object.keys(values).length;
  let out = '';
  let taken = 0;
  let depth = 0;
  for (let at = 0; at < json.length && left > 0; at++) {
    const character = json[at] ?? '';
    if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    if (character !== QUOTE) continue;
    const end = stringEnd(json, at);
    const start = depth === 1 ? valueStart(json, end) : null;
    const value = start === null ? undefined : values[json.slice(at + 1, end - 1)];
    at = end - 1;
    if (start === null || value === undefined || json[start] !== QUOTE) continue;
    out += json.slice(taken, start) + JSON.stringify(value);
    taken = stringEnd(json, start);
    at = taken - 1;
    left--;
  }
  // An unclosed text could go on in another JSON.
  const isPart = left === 0 && taken < json.length;
  return { json: out + json.slice(taken), head: isPart ? { old: taken, new: out.length } : null };
}

/**
 * @param json an object
 * @param values new texts, by field
 * @returns the JSON with these texts in place of the texts of its own fields; a field that is absent or no text stays
 * so
 */
export function withTexts(json: string, values: Readonly<Record<string, string>>): string {
  return replaced(json, values).json;
}

/**
 * As `withTexts`, for the chunks of one stream. Chunks that begin alike up to the last of the texts share its work, and
 * most servers write `id` and `model` in front.
 */
export function textReplacer(values: Readonly<Record<string, string>>): (json: string) => string {
  let before = '';
  let after = '';
  return (json) => {
    if (before !== '' && json.startsWith(before)) return after + json.slice(before.length);
    const { json: changed, head } = replaced(json, values);
    before = head === null ? '' : json.slice(0, head.old);
    after = head === null ? '' : changed.slice(0, head.new);
    return changed;
  };
}

/** Adds a field at the end of a JSON object that has other fields. */
export function withField(json: string, name: string, value: unknown): string {
  const end = json.lastIndexOf('}');
  return `${json.slice(0, end)},${JSON.stringify(name)}:${JSON.stringify(value)}${json.slice(end)}`;
}

/** The fields of an object, but for these. */
export function without(
  fields: Readonly<Record<string, unknown>>,
  ...names: readonly string[]
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}
