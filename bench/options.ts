/** Command lines of benches, and options of their engines. */
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { factor, factors } from '../src/cli/values.js';
import type { EngineOptions } from '../src/protocol/engine-options.js';
import { OptionError, packageRoot } from '../src/cli/options/config.js';

/** The model folder that benches measure by default. */
export const EMBEDDED = join(packageRoot, 'models', 'smollm2-135m-sorted');

interface Flag<T> {
  /** The placeholder of the value; empty for a switch. */
  readonly value: string;
  readonly help: string;
  readonly initial: T;
  readonly parse?: (text: string) => T;
  readonly isRequired?: boolean;
}

export const text = (value: string, help: string, initial: string): Flag<string> => ({ value, help, initial });
export const optional = (value: string, help: string): Flag<string | undefined> => ({
  ...{ value, help, initial: undefined },
});
/** A number above 0, or none. */
export const optionalNumber = (help: string): Flag<number | undefined> => ({
  ...{ value: 'n', help, initial: undefined, parse: factor },
});
export const required = (value: string, help: string): Flag<string> => ({ value, help, initial: '', isRequired: true });
/** Several values after one option. @param value a placeholder that ends with `...` */
export const words = (value: string, help: string, initial: readonly string[]): Flag<readonly string[]> => ({
  ...{ value, help, initial },
});
/** A switch, off by default. */
export const flag = (help: string): Flag<boolean> => ({ value: '', help, initial: false });
/** A number above 0, or by another rule. */
export const number = (help: string, initial: number, parse = factor): Flag<number> => ({
  ...{ value: 'n', help, initial, parse },
});
/** Numbers above 0, or by another rule, separated by commas. */
export const numbers = (help: string, initial: readonly number[], parse = factors): Flag<readonly number[]> => ({
  ...{ value: 'list', help, initial, parse },
});

/**
 * Reads the command line of a bench. It ends the process with exit code 2 for a wrong option.
 * @param flags by the names of their options in camel case
 */
export function optionsOf<T extends Readonly<Record<string, unknown>>>(
  name: string,
  description: string,
  flags: { readonly [K in keyof T]: Flag<T[K]> },
): T {
  const command = new Command(name).description(description);
  command.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2));
  for (const [key, { value, help, initial, parse, isRequired = false }] of Object.entries<Flag<unknown>>(flags)) {
    const flagName = key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const option = new Option(value === '' ? `--${flagName}` : `--${flagName} <${value}>`, help);
    // Commander would make --no-x the negation of --x.
    option.negate = false;
    if (parse !== undefined) option.argParser(parse);
    if (isRequired) option.makeOptionMandatory();
    else option.default(initial, Array.isArray(initial) ? initial.join(',') : undefined);
    command.addOption(option);
  }
  return command.parse().opts<T>();
}

/** @param overrides of these options */
export function engineOptions(
  modelDir: string,
  threads: number,
  overrides: Partial<EngineOptions> = {},
): EngineOptions {
  return {
    ...{ modelDir, device: 'cpu', threads, kvMemoryBytes: 2 ** 31, maxRunning: 16, maxQueue: 64, prefillChunk: 128 },
    ...{ kernels: null, prefixReuse: false, ...overrides },
  };
}

/** Runs a bench. Exit code 2 for a bad option, 1 for a failed measurement. */
export async function runBench(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = error instanceof OptionError ? 2 : 1;
  }
}
