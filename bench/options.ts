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
export function positives(flag: string, text: string): number[] {
  const list = text.split(',').map(Number);
  if (list.every((value) => value > 0)) return list;
  throw new OptionError(`${flag} must be positive numbers separated by commas, got "${text}"`);
}

/** @throws OptionError that names the option, its rule and the value */
export function nonNegatives(flag: string, text: string): number[] {
  const list = text.split(',').map(Number);
  if (list.every((value) => value >= 0)) return list;
  throw new OptionError(`${flag} must be numbers of 0 and more, separated by commas, got "${text}"`);
}
