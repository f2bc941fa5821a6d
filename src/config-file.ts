/** Reads the file of `--config`: YAML or JSON, one entry for each option, named as its flag. */
import { readFileSync } from 'node:fs';
import { environmentName, OptionError, resolveOptions, SERVE_OPTIONS, type ServeOptions } from './config.js';
import { inWords } from './util/file-fault.js';
import { mostSimilar } from './util/similar.js';

type Texts = Readonly<Record<string, string | undefined>>;

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

/**
 * @returns the texts of the options by their key; an empty entry counts as unset
 * @throws OptionError for an unreadable file, wrong syntax, an unknown name or a value that is neither a scalar nor a list
 */
async function readConfigFile(file: string): Promise<Texts> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    throw new OptionError(`--config must be a readable file, got "${file}" (${inWords(code)})`);
  }
  const { parse, YAMLError } = await import('yaml');
  let content: unknown;
  try {
    content = parse(text);
  } catch (error) {
    // The message of the parser quotes lines of the file, which may hold keys.
    if (!(error instanceof YAMLError)) throw error;
    const [line] = error.linePos ?? [];
    const place = line === undefined ? '' : ` at line ${line.line}, column ${line.col}`;
    throw new OptionError(`${file} is neither YAML nor JSON${place} (${error.code})`);
  }
  if (content === null) return {};
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new OptionError(`${file} must hold options by name, such as "port: 8080"`);
  }
  const entries = Object.entries(content).filter(([, value]) => value !== null && value !== '');
  return Object.fromEntries(
    entries.map(([name, value]: [string, unknown]) => {
      const key = KEYS.get(name);
      if (key === undefined) throw unknownName(file, name);
      const valueText = textOf(value);
      if (valueText !== undefined) return [key, valueText];
      throw new OptionError(`${file}: ${name} must be a text, a number, true, false or a list of these`);
    }),
  );
}

function unknownName(file: string, name: string): OptionError {
  const similar = mostSimilar(name, [...KEYS.keys()]);
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
  return resolveOptions(flags, env, { file, texts: await readConfigFile(file) });
}
