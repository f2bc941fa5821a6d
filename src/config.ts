/**
 * Resolves the options of the server from flags, environment and file. src/options holds the table and the rules of
 * values. `npm run docs:configuration` writes docs/configuration.md from the table.
 */
import { type OptionSpec, SERVE_OPTIONS, type ServeOptions } from './options/table.js';
import { mostSimilar } from './util/similar.js';

export { kernelList, modelName, ON_OFF } from './options/kinds.js';
export { EMBEDDED_MODEL, packageRoot } from './options/paths.js';
export { type OptionSpec, SERVE_OPTIONS, type ServeOptions } from './options/table.js';

/** A value that breaks its option's rule. The process exits with code 2. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

export function environmentName(flag: string): string {
  return `SORTIE_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/** Variables that Kubernetes sets for a Service named `sortie`. */
const SERVICE_LINK = /^SORTIE_(SERVICE_|PORT_\d)/;

/** Variables of the tests and benches. */
const TEST_VARIABLE = /^SORTIE_(TEST_|MAIN$)/;

/** A variable that begins like ours and sets no option. */
export interface UnknownVariable {
  readonly variable: string;
  /** The variable of an option that differs by a few letters, or null. */
  readonly suggestion: string | null;
}

/** Finds misspelt variables, which would otherwise have no effect without a word. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): UnknownVariable[] {
  const known = Object.values(SERVE_OPTIONS).map(({ flag }) => environmentName(flag));
  return Object.keys(env)
    .filter((name) => name.startsWith('SORTIE_') && !known.includes(name))
    .filter((name) => !SERVICE_LINK.test(name) && !TEST_VARIABLE.test(name))
    .map((variable) => ({ variable, suggestion: mostSimilar(variable, known) }));
}

/** @throws OptionError that names the option as the operator wrote it, its rule, and the value unless it is secret. */
function parseValue<T>({ kind }: OptionSpec<T>, source: string, text: string): T {
  const value = kind.parse(text);
  if (value !== undefined) return value;
  throw new OptionError(`${source} must be ${kind.rule}${kind.isSecret === true ? '' : `, got "${text}"`}`);
}

/** A configuration file: the texts of its options, by key. */
export interface FileOptions {
  readonly file: string;
  readonly texts: Readonly<Record<string, string | undefined>>;
}

/**
 * Resolves each option from the command line (`flags`, by key), then from the environment, then from a configuration
 * file, then from the defaults. An empty environment variable counts as unset.
 * @throws OptionError for a value that breaks its rule, or for one port that both servers should share.
 */
export function resolveOptions(
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
  configured: FileOptions | null = null,
): ServeOptions {
  const entries = Object.entries(SERVE_OPTIONS).map(([key, spec]: [string, OptionSpec<unknown>]) => {
    const variable = environmentName(spec.flag);
    const flag = flags[key];
    if (flag !== undefined) return [key, parseValue(spec, `--${spec.flag}`, flag)] as const;
    const twin = env[variable];
    if (twin !== undefined && twin !== '') return [key, parseValue(spec, variable, twin)] as const;
    const text = configured?.texts[key];
    if (text !== undefined) return [key, parseValue(spec, `${configured?.file}: ${spec.flag}`, text)] as const;
    return [key, spec.default] as const;
  });
  const options = Object.fromEntries(entries) as unknown as ServeOptions;
  // With port 0 for both, the system assigns two different ports.
  if (options.port !== 0 && options.opsPort === options.port) {
    throw new OptionError(`--ops-port must differ from --port, got "${options.port}" for both`);
  }
  return options;
}

/** The default of an option as --help and docs/configuration.md name it. */
export function defaultText({ default: initial, defaultText }: OptionSpec<unknown>): string {
  return defaultText ?? (typeof initial === 'boolean' ? (initial ? 'on' : 'off') : String(initial));
}

/** The help text of one option, with its default and its environment variable. */
export function helpText(spec: OptionSpec<unknown>): string {
  return `${spec.help} (default: ${defaultText(spec)}; env: ${environmentName(spec.flag)})`;
}
