/** What numbers the options of benches may be. Knows: flags as they are written. Must not know: what they are for. */

/** @throws Error naming the option, its rule and the value */
export function positive(flag: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`${flag} must be a positive number, got "${text}"`);
}

/** @throws Error naming the option, its rule and the value */
export function positives(flag: string, text: string): number[] {
  const list = text.split(',').map(Number);
  if (list.every((value) => value > 0)) return list;
  throw new Error(`${flag} must be positive numbers separated by commas, got "${text}"`);
}
