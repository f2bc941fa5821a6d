/**
 * Resolves the options of the server from flags, environment and file. cli/options holds the table and the rules of
 * values. `npm run docs:configuration` writes docs/configuration.md from the table.
 */
import { readFileSync } from 'node:fs';
import { type OptionSpec, SERVE_OPTIONS, type ServeOptions } from './table.js';
import { type UpstreamSections, upstreamSections } from './upstream-sections.js';
import { mostSimilar } from '../../util/similar.js';

export { kernelList, modelName, ON_OFF } from './kinds.js';
export { EMBEDDED_MODEL, packageRoot } from './paths.js';
export { type OptionSpec, SERVE_OPTIONS, type ServeOptions } from './table.js';

/** A value that breaks its option's rule. The process exits with code 2. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

export function environmentName(flag: string): string {
  return `SORTIE_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/** Faults of the file system in words, by their code. */
const FAULTS: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  EACCES: 'no permission',
  EISDIR: 'it is a folder',
  ENOTDIR: 'a part of its path is no folder',
};

type Texts = Readonly<Record<string, string | undefined>>;

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
export function unknownVariables(env: Texts): UnknownVariable[] {
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
interface FileOptions {
  readonly file: string;
  readonly texts: Texts;
  /** Absent: the file has no such sections. */
  readonly sections?: UpstreamSections;
}

/**
 * Resolves each option from the command line (`flags`, by key), then from the environment, then from a configuration
 * file, then from the defaults. An empty environment variable counts as unset.
 * @throws OptionError for a value that breaks its rule, or for one port that both servers should share.
 */
export function resolveOptions(flags: Texts, env: Texts, configured: FileOptions | null = null): ServeOptions {
  const entries = Object.entries(SERVE_OPTIONS).map(([key, spec]: [string, OptionSpec<unknown>]) => {
    const flag = flags[key];
    if (flag !== undefined) return [key, parseValue(spec, `--${spec.flag}`, flag)] as const;
    const variable = environmentName(spec.flag);
    const twin = env[variable];
    if (twin !== undefined && twin !== '') return [key, parseValue(spec, variable, twin)] as const;
    const text = configured?.texts[key];
    if (text !== undefined) return [key, parseValue(spec, `${configured?.file}: ${spec.flag}`, text)] as const;
    return [key, spec.default] as const;
  });
  const { sections } = configured ?? {};
  const all = { ...Object.fromEntries(entries), ...(sections !== undefined && { sections }) };
  const options = all as unknown as ServeOptions;
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

/** The options that a file may set, by flag. */
const KEYS = new Map(
  Object.entries(SERVE_OPTIONS)
    .filter(([key]) => key !== 'config')
    .map(([key, { flag }]) => [flag, key] as const),
);

/** The text of a value as a flag would have it; undefined for a value that no flag can state. */
function textOf(value: unknown): string | undefined {
  if (Array.isArray(value)) {
    const items = value.map(textOf);
    return items.every((item) => item !== undefined) ? items.join(',') : undefined;
  }
  return ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : undefined;
}

/** The names of the sections that no flag has. */
const SECTIONS = ['upstreams', 'models'];

/** @throws OptionError for an unreadable file, or wrong syntax */
async function parsedFile(file: string): Promise<unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    throw new OptionError(`--config must be a readable file, got "${file}" (${FAULTS[code] ?? code})`);
  }
  const { parse, YAMLError } = await import('yaml');
  try {
    return parse(text);
  } catch (error) {
    // The message of the parser quotes lines of the file, which may hold keys.
    if (!(error instanceof YAMLError)) throw error;
    const [line] = error.linePos ?? [];
    const place = line === undefined ? '' : ` at line ${line.line}, column ${line.col}`;
    throw new OptionError(`${file} is neither YAML nor JSON${place} (${error.code})`);
  }
}

/**
 * @returns the texts of the options by their key, and the sections; an empty entry counts as unset
 * @throws OptionError for an unreadable file, wrong syntax, an unknown name, a value that is neither a scalar nor a
 * list, or a section that breaks its rules
 */
async function readConfigFile(file: string): Promise<FileOptions> {
  const content = await parsedFile(file);
  if (content === null) return { file, texts: {} };
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new OptionError(`${file} must hold options by name, such as "port: 8080"`);
  }
  const stated = Object.entries(content).filter(([, value]) => value !== null && value !== '');
  const entries = stated.filter(([name]) => !SECTIONS.includes(name));
  const texts = Object.fromEntries(
    entries.map(([name, value]: [string, unknown]) => {
      const key = KEYS.get(name);
      if (key === undefined) throw unknownName(file, name);
      const valueText = textOf(value);
      if (valueText !== undefined) return [key, valueText];
      throw new OptionError(`${file}: ${name} must be a text, a number, true, false or a list of these`);
    }),
  );
  if (entries.length === stated.length) return { file, texts };
  return { file, texts, sections: upstreamSections(file, content, (message) => new OptionError(message)) };
}

function unknownName(file: string, name: string): OptionError {
  const similar = mostSimilar(name, [...KEYS.keys(), ...SECTIONS]);
  const hint = similar === null ? 'see serve --help' : `did you mean ${similar}?`;
  return new OptionError(`${file}: ${name} is not an option of a configuration file; ${hint}`);
}

/**
 * Resolves each option from the command line, then from the environment, then from the file of `--config`, then from
 * the defaults.
 * @throws OptionError
 */
export async function loadOptions(flags: Texts, env: Texts): Promise<ServeOptions> {
  const named = [flags.config, env[environmentName(SERVE_OPTIONS.config.flag)]];
  const file = named.find((each) => each !== undefined && each !== '');
  if (file === undefined) return resolveOptions(flags, env);
  return resolveOptions(flags, env, await readConfigFile(file));
}
