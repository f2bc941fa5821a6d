/**
 * Every option of the server in one table: flag, environment twin, default, unit, range.
 *
 * Knows: names, rules and defaults. Must not know: what uses an option.
 */
import { availableParallelism, homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultPolicy } from './router/index.js';

/** Two levels above the compiled src/*.js. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** A user that is a number alone may have none; the root then, as containers have it: nothing is written there. */
function home(): string {
  try {
    // Empty where HOME is: what is relative to that would be in whatever folder this runs in.
    return homedir() || '/';
  } catch {
    return '/';
  }
}

/** Where caches go by the XDG convention. */
function defaultCacheDir(env: Readonly<Record<string, string | undefined>>): string {
  const base = env.XDG_CACHE_HOME;
  return join(base === undefined || base === '' ? join(home(), '.cache') : base, 'sortie');
}

/** A value that breaks its option's rule. The process exits with code 2. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

/** How the text of an option becomes its value; `rule` completes "must be ...". */
interface Kind<T> {
  readonly rule: string;
  /** @returns undefined when the text breaks the rule. */
  parse(text: string): T | undefined;
  /** Whether a wrong text is kept out of the error, which ends up in logs. */
  readonly isSecret?: true;
}

export interface OptionSpec<T> {
  /** Without the dashes; the environment twin is SORTIE_ + upper case with underscores. */
  readonly flag: string;
  /** Stands for the value in --help. */
  readonly value: string;
  readonly kind: Kind<T>;
  readonly default: T;
  readonly help: string;
  /** How --help names the default, where its plain form says little. */
  readonly defaultText?: string;
}

const integer = (min: number, max: number): Kind<number> => ({
  rule: `an integer from ${min} to ${max}`,
  parse: (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const seconds = (min: number, max: number): Kind<number> => ({
  rule: `a number of seconds from ${min} to ${max}`,
  parse: (text) => {
    const value = /^\d+(\.\d+)?s?$/.test(text) ? Number(text.replace('s', '')) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 2 ** 10,
  KIB: 2 ** 10,
  KB: 1e3,
  M: 2 ** 20,
  MIB: 2 ** 20,
  MB: 1e6,
  G: 2 ** 30,
  GIB: 2 ** 30,
  GB: 1e9,
  T: 2 ** 40,
  TIB: 2 ** 40,
  TB: 1e12,
};

const bytes = (min: number, minText: string): Kind<number> => ({
  rule: `a size of at least ${minText}, such as 512MiB or 2GiB`,
  parse: (text) => {
    const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text);
    const unit = UNITS[(match?.[2] ?? '').toUpperCase()];
    if (match === null || unit === undefined) return undefined;
    const value = Math.floor(Number(match[1]) * unit);
    return value >= min && value <= Number.MAX_SAFE_INTEGER ? value : undefined;
  },
});

const oneOf = <const T extends string>(...values: readonly T[]): Kind<T> => ({
  rule: `one of ${values.join(', ')}`,
  parse: (text) => values.find((value) => value === text),
});

const onOff: Kind<boolean> = {
  rule: 'on or off',
  parse: (text) => {
    const word = text.toLowerCase();
    if (['on', 'true', '1'].includes(word)) return true;
    return ['off', 'false', '0'].includes(word) ? false : undefined;
  },
};

const text: Kind<string> = { rule: 'a text', parse: (value) => (value === '' ? undefined : value) };

const optionalText: Kind<string | null> = { rule: 'a text', parse: (value) => (value === '' ? undefined : value) };

const name: Kind<string | null> = {
  rule: 'a name of letters, digits, ".", "_", "-" and "/" (a colon separates the depth)',
  parse: (value) => (/^[\w.\-/]{1,128}$/.test(value) ? value : undefined),
};

const list: Kind<readonly string[]> = {
  rule: 'a list separated by commas',
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    return items.every((item) => item !== '') ? items : undefined;
  },
};

const secretList: Kind<readonly string[]> = { ...list, isSecret: true };

/** As browsers write an origin: scheme and host, and the port where it is not the usual one. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, host } = new URL(text);
  return host !== '' && `${protocol}//${host}` === text;
}

const originList: Kind<readonly string[]> = {
  rule: 'a list of origins such as https://app.example (no path, no slash at the end) separated by commas, or *',
  parse: (value) => {
    const items = list.parse(value);
    return items?.every((item) => item === '*' || isOrigin(item)) === true ? items : undefined;
  },
};

const kernelList: Kind<readonly ('int4' | 'w8a8' | 'fp32' | 'fp16')[] | null> = {
  rule: 'a list of int4, w8a8, fp32, fp16, separated by commas',
  parse: (value) => {
    const known = ['int4', 'w8a8', 'fp32', 'fp16'] as const;
    const items = value.split(',').map((item) => known.find((kernel) => kernel === item.trim()));
    // Each one more is loaded and measured, or converted, named before or not.
    return items.every((item) => item !== undefined) ? [...new Set(items)] : undefined;
  },
};

const optionalPort: Kind<number | null> = integer(0, 65535);

const fraction = (min: number, max: number): Kind<number> => ({
  rule: `a number from ${min} to ${max}`,
  parse: (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const optionalMs: Kind<number | null> = integer(1, 86_400_000);

const optionalLayer: Kind<number | null> = integer(1, 9999);

const exitLayer: Kind<number | null> = {
  rule: 'an exit layer of the model, or "deepest"',
  parse: (value) => (value === 'deepest' ? null : /^[1-9]\d{0,3}$/.test(value) ? Number(value) : undefined),
};

function spec<T>(
  flag: string,
  value: string,
  kind: Kind<T>,
  initial: T,
  help: string,
  defaultText?: string,
): OptionSpec<T> {
  return { flag, value, kind, default: initial, help, ...(defaultText === undefined ? {} : { defaultText }) };
}

export const SERVE_OPTIONS = {
  port: spec('port', 'N', integer(0, 65535), 8080, 'port to listen on; 0 takes a free one'),
  opsPort: spec(
    'ops-port',
    'N',
    optionalPort,
    null,
    'a second port, for /metrics and /docs, which are then not on the first',
    'none',
  ),
  mainMetrics: spec('main-metrics', 'on|off', onOff, false, 'keep /metrics on the first port beside --ops-port'),
  host: spec('host', 'ADDRESS', text, '0.0.0.0', 'address to listen on; 127.0.0.1 keeps it to this machine'),
  model: spec(
    'model',
    'DIR',
    text,
    join(packageRoot, 'models', 'smollm2-135m-sorted'),
    'model folder, as `sortie convert` writes it',
    'the embedded model',
  ),
  modelName: spec('model-name', 'NAME', name, null, 'name that requests use', "the manifest's name"),
  device: spec('device', 'NAME', oneOf('cpu', 'cuda'), 'cpu', 'where the model runs'),
  threads: spec('threads', 'N', integer(1, 1024), availableParallelism(), 'threads of the engine', 'all cores'),
  kvMemory: spec('kv-memory', 'SIZE', bytes(2 ** 20, '1MiB'), 2 ** 30, 'memory of the KV cache', '1GiB'),
  kernels: spec('kernels', 'LIST', kernelList, null, 'kernels to load', 'all that the model offers'),
  maxRunning: spec('max-running', 'N', integer(1, 1024), 32, 'most sequences that decode at once'),
  maxQueue: spec('max-queue', 'N', integer(0, 1_000_000), 256, 'most sequences that wait; one more gets a 429'),
  prefillChunk: spec('prefill-chunk', 'TOKENS', integer(1, 8192), 128, 'most prompt tokens between two decode steps'),
  prefixReuse: spec('prefix-reuse', 'on|off', onOff, true, 'reuse the KV cache of equal prompt beginnings'),
  speculate: spec(
    'speculate',
    'WHOM',
    oneOf('off', 'unseeded', 'all'),
    'unseeded',
    'whose answers are drafted and verified while they decode alone: off, unseeded (sampled without a seed) or all',
  ),
  defaultExit: spec(
    'default-exit',
    'LAYER',
    exitLayer,
    null,
    'depth of requests that state neither a budget nor a depth',
    'deepest',
  ),
  defaultBudget: spec(
    'default-budget',
    'MS',
    optionalMs,
    null,
    'total latency budget of requests that state none, ms',
    'none',
  ),
  minExit: spec(
    'min-exit',
    'LAYER',
    optionalLayer,
    null,
    'no request goes shallower, unless its key has a bound of its own',
    'the shallowest',
  ),
  maxExit: spec(
    'max-exit',
    'LAYER',
    optionalLayer,
    null,
    'no request goes deeper, unless its key has a bound of its own',
    'the deepest',
  ),
  shedDepth: spec(
    'shed-depth',
    'on|off',
    onOff,
    false,
    'under load, requests without a budget go shallower, too; off: they keep full depth and wait',
  ),
  noBudgetShare: spec(
    'no-budget-share',
    'SHARE',
    fraction(0.01, 1),
    0.1,
    'share of the machine that requests without a budget get under any load',
  ),
  attainmentWeight: spec(
    'attainment-weight',
    'SHARE',
    fraction(0, 1),
    defaultPolicy.attainmentWeight,
    'attainment against quality: 1 goes deeper only where no budget is put at risk, 0 weighs quality alone',
  ),
  arrivalHeadroom: spec(
    'arrival-headroom',
    'X',
    fraction(0, 10),
    defaultPolicy.arrivalHeadroom,
    'plans leave time for this many times the expected arrivals; 0 spends all on depth',
  ),
  maxStall: spec(
    'max-stall',
    'MS',
    integer(1, 60_000),
    120,
    'longest that one prompt chunk holds up the others, ms, where a smaller chunk exists',
  ),
  cacheDir: spec(
    'cache-dir',
    'DIR',
    text,
    defaultCacheDir(process.env),
    'keeps what was measured of model and machine',
    '$XDG_CACHE_HOME/sortie or ~/.cache/sortie',
  ),
  recalibrate: spec('recalibrate', 'on|off', onOff, false, 'measure anew although there is something in the cache'),
  maxTokensDefault: spec(
    'max-tokens-default',
    'TOKENS',
    integer(1, 1_000_000),
    1024,
    'answer length where a chat request states none; less where the context ends',
  ),
  maxChoices: spec('max-choices', 'N', integer(1, 4096), 64, 'most answers to one request (prompts times n)'),
  maxBody: spec('max-body', 'SIZE', bytes(1024, '1KiB'), 4 * 2 ** 20, 'largest request body', '4MiB'),
  maxConnections: spec('max-connections', 'N', integer(1, 1_000_000), 4096, 'most open connections'),
  requestTimeout: spec(
    'request-timeout',
    'SECONDS',
    seconds(0.1, 3600),
    30,
    'a request that has not arrived whole by then is dropped',
  ),
  stallTimeout: spec(
    'stall-timeout',
    'SECONDS',
    seconds(0.1, 3600),
    60,
    'a client that reads nothing of its answer for so long is cut',
  ),
  keepAlive: spec('keep-alive', 'SECONDS', seconds(0.1, 3600), 15, 'a silent stream gets a comment line that often'),
  apiKey: spec('api-key', 'KEYS', secretList, [], 'API keys, separated by commas', 'no key is asked for'),
  apiKeyFile: spec(
    'api-key-file',
    'FILE',
    optionalText,
    null,
    'file with an API key a line, or JSON with names, limits and bounds of each key',
    'none',
  ),
  corsOrigin: spec('cors-origin', 'ORIGINS', originList, [], 'origins that browsers may call from, or *', 'none'),
  drainTimeout: spec('drain-timeout', 'SECONDS', seconds(0, 3600), 30, 'on SIGTERM, running answers may take so long'),
  logLevel: spec(
    'log-level',
    'LEVEL',
    oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'least level that is logged',
  ),
  logPrompts: spec('log-prompts', 'on|off', onOff, false, 'write request bodies to the log'),
} as const satisfies Record<string, OptionSpec<never> | OptionSpec<unknown>>;

/** The value of every option. */
export type ServeOptions = {
  readonly [K in keyof typeof SERVE_OPTIONS]: (typeof SERVE_OPTIONS)[K] extends OptionSpec<infer T> ? T : never;
};

export function environmentName(flag: string): string {
  return `SORTIE_${flag.toUpperCase().replaceAll('-', '_')}`;
}

/** @throws OptionError naming the option as the user wrote it, the rule and, where it is no secret, the value. */
function parseValue<T>({ kind }: OptionSpec<T>, source: string, text: string): T {
  const value = kind.parse(text);
  if (value !== undefined) return value;
  throw new OptionError(`${source} must be ${kind.rule}${kind.isSecret === true ? '' : `, got "${text}"`}`);
}

/**
 * Options from what the command line gave (by key; absent where it gave none), then the environment, then defaults.
 * An empty environment variable counts as unset.
 * @throws OptionError for a value that breaks its rule, or one port for both servers.
 */
export function resolveOptions(
  flags: Readonly<Record<string, string | undefined>>,
  env: Readonly<Record<string, string | undefined>>,
): ServeOptions {
  const entries = Object.entries(SERVE_OPTIONS).map(([key, spec]: [string, OptionSpec<unknown>]) => {
    const variable = environmentName(spec.flag);
    const flag = flags[key];
    if (flag !== undefined) return [key, parseValue(spec, `--${spec.flag}`, flag)] as const;
    const twin = env[variable];
    if (twin !== undefined && twin !== '') return [key, parseValue(spec, variable, twin)] as const;
    return [key, spec.default] as const;
  });
  const options = Object.fromEntries(entries) as unknown as ServeOptions;
  // Two free ports differ by themselves.
  if (options.port !== 0 && options.opsPort === options.port) {
    throw new OptionError(`--ops-port must be another port than --port, got "${options.port}" for both`);
  }
  return options;
}

/** The help text of one option, with its default and its environment twin. */
export function helpText(spec: OptionSpec<unknown>): string {
  const initial =
    spec.defaultText ?? (typeof spec.default === 'boolean' ? (spec.default ? 'on' : 'off') : String(spec.default));
  return `${spec.help} (default: ${initial}; env: ${environmentName(spec.flag)})`;
}
