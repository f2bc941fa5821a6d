/** Reads request headers of budget and depth. Must not know: the meaning of a header. */
import { invalid } from '../errors.js';
import { quoted } from '../../util/quoted.js';

export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * The values of a header, in order. Node.js joins repeated headers by commas, the separator of lists.
 * @param rule completes "NAME must be ..."
 * @param read returns undefined for a text that breaks the rule
 * @throws ApiError invalid_value that names the header and the value
 */
export function headerValues<T>(
  headers: Headers,
  name: string,
  rule: string,
  read: (text: string) => T | undefined,
): T[] {
  const lines = [headers[name.toLowerCase()] ?? []].flat();
  // `trim` would remove a no-break space as well, which is not white space in a header.
  const texts = lines.flatMap((line) => line.split(',')).map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ''));
  return texts.map((text, index) => {
    const value = read(text);
    if (value !== undefined) return value;
    const place = texts.length === 1 ? '' : ` as value ${index + 1} of ${texts.length}`;
    throw invalid(name, `must be ${rule}, got ${quoted(text)}${place}`);
  });
}

/** The one value of a header whose values have no order, and so must agree; null without the header. */
export function agreed<T extends string | number | boolean>(name: string, values: readonly T[]): T | null {
  const [first = null, ...others] = new Set(values);
  if (others.length === 0) return first;
  throw invalid(name, `must have one value, got different ones: ${[first, ...others].join(', ')}`);
}

/** The smallest of the stated values; null without one. */
export function least(values: readonly (number | null)[]): number | null {
  const stated = values.filter((value) => value !== null);
  return stated.length === 0 ? null : Math.min(...stated);
}
