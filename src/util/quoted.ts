/** Values in error messages. */

/**
 * The value as JSON. A value without JSON (too deep, or circular) must not turn an error message into another error.
 */
function written(value: unknown): string {
  try {
    const json = JSON.stringify(value) as string | undefined;
    return json ?? 'undefined';
  } catch {
    return 'a value without a JSON form';
  }
}

/** A value for an error message: short and on one line. */
export function quoted(value: unknown): string {
  const text = typeof value === 'string' ? `"${value}"` : written(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
