/** The parts of an option: its names, the rule of its value, its default and its effect. */

/** The rule that turns an option's text into its value. */
export interface Kind<T> {
  /** Completes "must be ...". */
  readonly rule: string;
  /** Every value, if the option has a closed set. */
  readonly values?: readonly string[];
  /** The rule in short, for the table in docs/configuration.md. */
  readonly type: string;
  /** Unit of a plain number. */
  readonly unit?: string;
  /** @returns undefined when the text breaks the rule. */
  parse(text: string): T | undefined;
  /** Keeps a wrong text out of the error message, because error messages reach logs. */
  readonly isSecret?: true;
}

export interface OptionSpec<T> {
  /** The flag without dashes. The environment variable is SORTIE_ + upper case with underscores. */
  readonly flag: string;
  /** The placeholder of the value in --help. */
  readonly value: string;
  readonly kind: Kind<T>;
  readonly default: T;
  /** The effect, in --help and in docs/configuration.md. */
  readonly help: string;
  /** The default as --help names it, if its plain form says little. */
  readonly defaultText?: string;
}

/** @param initial the default */
export function spec<T>(
  flag: string,
  value: string,
  kind: Kind<T>,
  initial: T,
  help: string,
  defaultText?: string,
): OptionSpec<T> {
  return { flag, value, kind, default: initial, help, ...(defaultText === undefined ? {} : { defaultText }) };
}

/** The options of a topic, by key. */
export type Group = Readonly<Record<string, OptionSpec<never> | OptionSpec<unknown>>>;
