/** The rules of values on the command line. Each parser throws commander's error, which completes "must be ...". */
import { InvalidArgumentError, Option } from 'commander';
import type { OptionSpec } from './options/config.js';
import { parseBudgets } from '../../bench/loadgen/budgets.js';
import type { BenchOptions } from '../../bench/loadgen/bench-options.js';

/** Gives an option of another command the rule of the `serve` option with the same meaning. */
export function ruleOf<T>({ kind }: Pick<OptionSpec<T>, 'kind'>): (value: string) => NonNullable<T> {
  return (value) => {
    const parsed = kind.parse(value);
    if (parsed != null) return parsed;
    throw new InvalidArgumentError(`must be ${kind.rule}`);
  };
}

/** An option of a value. @param seen the default in the help; absent: the value itself, a list with commas */
export function option<T>(flags: string, help: string, parse: (text: string) => T, initial?: T, seen?: string): Option {
  const text = seen ?? (Array.isArray(initial) ? initial.join(',') : undefined);
  return new Option(flags, help).argParser(parse).default(initial, text);
}

/** An option of some words. */
export const choice = (flags: string, help: string, choices: readonly string[], initial: string): Option =>
  new Option(flags, help).choices(choices).default(initial);

export function exits(value: string): number[] {
  const layers = value.split(',').map((item) => (/^[1-9]\d{0,3}$/.test(item.trim()) ? Number(item) : NaN));
  if (layers.some(Number.isNaN)) throw new InvalidArgumentError('must be layer numbers separated by commas');
  return layers;
}

export function positive(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('must be a positive integer');
}

export function positives(value: string): number[] {
  return value.split(',').map((item) => positive(item.trim()));
}

export function fraction(value: string): number {
  if (/^(\d{1,9}(\.\d{0,9})?|\.\d{1,9})$/.test(value)) return Number(value);
  throw new InvalidArgumentError('must be a number of at least 0');
}

export function fractions(value: string): number[] {
  return value.split(',').map((item) => fraction(item.trim()));
}

export function factor(value: string): number {
  const number = fraction(value);
  if (number > 0) return number;
  throw new InvalidArgumentError('must be a number above 0');
}

export function factors(value: string): number[] {
  return value.split(',').map((item) => factor(item.trim()));
}

/** A list of classes. @throws InvalidArgumentError with the rule */
export function budgets(value: string): BenchOptions['budgets'] {
  try {
    return parseBudgets(value);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

export function jsonObject(value: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(value);
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  } catch {
    // The error below names the rule for any other text.
  }
  throw new InvalidArgumentError('must be a JSON object such as {"temperature": 0}');
}

export function header(value: string, earlier: Readonly<Record<string, string>> = {}): Record<string, string> {
  const [, name, text] = /^([\w!#$%&'*+.^`|~-]+):\s*(\S.*)$/.exec(value) ?? [];
  if (name === undefined || text === undefined)
    throw new InvalidArgumentError('must be a header such as "Name: value"');
  return { ...earlier, [name]: text };
}

export function timeout(value: string): number {
  const seconds = factor(value);
  // Node.js itself ends a request after 300 s without a byte.
  if (seconds <= 300) return seconds;
  throw new InvalidArgumentError('must be a number of seconds above 0 and at most 300');
}
