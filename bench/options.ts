/** Parts that all command lines of benches share. */
import { join } from 'node:path';
import { OptionError, packageRoot } from '../src/config.js';

/** The model folder that benches measure by default. */
export const EMBEDDED = join(packageRoot, 'models', 'smollm2-135m-sorted');

/** Runs a bench. Exit code 2 for a bad option, 1 for a failed measurement. */
export async function runBench(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = error instanceof OptionError ? 2 : 1;
  }
}

/** @throws OptionError that names the option, its rule and the value */
export function positive(flag: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new OptionError(`${flag} must be a positive number, got "${text}"`);
}

/** @throws OptionError that names the option, its rule and the value */
export const positives = (flag: string, text: string): number[] =>
  numbers(flag, text, 'positive numbers', (value) => value > 0);

/** @throws OptionError that names the option, its rule and the value */
export const nonNegatives = (flag: string, text: string): number[] =>
  numbers(flag, text, 'numbers of 0 and more', (value) => value >= 0);

function numbers(flag: string, text: string, rule: string, isAllowed: (value: number) => boolean): number[] {
  const list = text.split(',').map(Number);
  if (list.every(isAllowed)) return list;
  throw new OptionError(`${flag} must be ${rule}, separated by commas, got "${text}"`);
}
