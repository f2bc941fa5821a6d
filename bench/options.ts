/** Numeric options of benches. */

/** @throws Error that names the option, its rule and the value */
export function positive(flag: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`${flag} must be a positive number, got "${text}"`);
}

/** @throws Error that names the option, its rule and the value */
export function positives(flag: string, text: string): number[] {
  const list = text.split(',').map(Number);
  if (list.every((value) => value > 0)) return list;
  throw new Error(`${flag} must be positive numbers separated by commas, got "${text}"`);
}

/** @throws Error that names the option, its rule and the value */
export function nonNegatives(flag: string, text: string): number[] {
  const list = text.split(',').map(Number);
  if (list.every((value) => value >= 0)) return list;
  throw new Error(`${flag} must be numbers of 0 and more, separated by commas, got "${text}"`);
}
