/** Values in error messages. Knows: JSON. Must not know: which message. */

/** As JSON; what has none (too deep, in a circle) must not turn the message of an error into another error. */
function written(value: unknown): string {
  try {
    const json = JSON.stringify(value) as string | undefined;
    return json ?? 'undefined';
  } catch {
    return "a value that can't be written";
  }
}

/** A value for an error message: short, on one line. */
export function quoted(value: unknown): string {
  const text = typeof value === 'string' ? `"${value}"` : written(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
