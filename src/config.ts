/**
 * Every option of the server in one table by group: flag, environment variable, default, unit, range, effect.
 * `npm run docs:configuration` writes docs/configuration.md from it.
 */
import { availableParallelism, homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import proxyAddr from '@fastify/proxy-addr';
import { defaultPolicy } from './router/index.js';
import { mostSimilar } from './util/similar.js';

/** The package root: two levels above the compiled src/*.js. */
export const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** The default of --model. The npm package does not hold it. */
export const EMBEDDED_MODEL = join(packageRoot, 'models', 'smollm2-135m-sorted');

/**
 * The user's home folder. A numeric user, as in containers, may have none. The result is then `/`, where no cache is
 * written.
 */
function home(): string {
  try {
    // The result is empty if HOME is. A relative path would depend on the folder that the process runs in.
    return homedir() || '/';
  } catch {
    return '/';
  }
}

/** The cache folder by the XDG convention. */
function defaultCacheDir(env: Readonly<Record<string, string | undefined>>): string {
  const base = env.XDG_CACHE_HOME;
  return join(base === undefined || base === '' ? join(home(), '.cache') : base, 'sortie');
}

/** A value that breaks its option's rule. The process exits with code 2. */
export class OptionError extends Error {
  override readonly name = 'OptionError';
}

/** The rule that turns an option's text into its value. */
interface Kind<T> {
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

const integer = (min: number, max: number, unit = ''): Kind<number> => ({
  rule: `an integer from ${min} to ${max}`,
  type: `integer, ${min} to ${max}`,
  unit,
  parse: (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const seconds = (min: number, max: number): Kind<number> => ({
  rule: `a number of seconds from ${min} to ${max}`,
  type: `number, ${min} to ${max}`,
  unit: 's',
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
  type: `size, at least ${minText}`,
  unit: 'bytes',
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
  values,
  type: values.join(', '),
  parse: (text) => values.find((value) => value === text),
});

const onOff: Kind<boolean> = {
  rule: 'on or off',
  type: 'on or off',
  parse: (text) => {
    const word = text.toLowerCase();
    if (['on', 'true', '1'].includes(word)) return true;
    return ['off', 'false', '0'].includes(word) ? false : undefined;
  },
};

/** `on` was the option's only other value in earlier versions. It selects the default. */
const prefixReuse: Kind<'off' | 'key' | 'all'> = {
  rule: 'off, key or all',
  type: 'off, key, all',
  parse: (text) => {
    if (text === 'key' || text === 'all') return text;
    const isOn = onOff.parse(text);
    return isOn === undefined ? undefined : isOn ? 'key' : 'off';
  },
};

const text: Kind<string> = { rule: 'a text', type: 'text', parse: (value) => (value === '' ? undefined : value) };

const optionalText: Kind<string | null> = text;

export const modelName: Kind<string> = {
  rule: 'a name of letters, digits, ".", "_", "-" and "/" (a colon separates the depth)',
  type: 'name',
  parse: (value) => (/^[\w.\-/]{1,128}$/.test(value) ? value : undefined),
};

const nameList: Kind<readonly string[]> = {
  rule: 'different names of letters, digits, ".", "_", "-" and "/", separated by commas',
  type: 'list of names',
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    const isValid = items.every((item) => modelName.parse(item) !== undefined) && new Set(items).size === items.length;
    return isValid ? items : undefined;
  },
};

const list: Kind<readonly string[]> = {
  rule: 'a list separated by commas',
  type: 'list',
  parse: (value) => {
    const items = value.split(',').map((item) => item.trim());
    return items.every((item) => item !== '') ? items : undefined;
  },
};

/** Whether the library reads every item as an address, a network or one of its names. */
function areNetworks(items: readonly string[]): boolean {
  try {
    proxyAddr.compile([...items]);
    return true;
  } catch {
    return false;
  }
}

const networkList: Kind<readonly string[]> = {
  rule: 'a list of IP addresses, networks such as 10.0.0.0/8, loopback, linklocal or uniquelocal, separated by commas',
  type: 'list of addresses, networks, loopback, linklocal, uniquelocal',
  parse: (value) => {
    const items = list.parse(value);
    return items !== undefined && areNetworks(items) ? items : undefined;
  },
};

const secretList: Kind<readonly string[]> = { ...list, isSecret: true };

/** Whether the text is an origin as browsers write it: scheme, host, and the port if it is not the scheme's default. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, host } = new URL(text);
  return host !== '' && `${protocol}//${host}` === text;
}

const originList: Kind<readonly string[]> = {
  rule: 'a list of origins such as https://app.example (no path, no slash at the end) separated by commas, or *',
  type: 'list of origins, or *',
  parse: (value) => {
    const items = list.parse(value);
    return items?.every((item) => item === '*' || isOrigin(item)) === true ? items : undefined;
  },
};

const kernelList: Kind<readonly ('int4' | 'w8a8' | 'fp32' | 'fp16')[] | null> = {
  rule: 'a list of int4, w8a8, fp32, fp16, separated by commas',
  type: 'list of int4, w8a8, fp32, fp16',
  parse: (value) => {
    const known = ['int4', 'w8a8', 'fp32', 'fp16'] as const;
    const items = value.split(',').map((item) => known.find((kernel) => kernel === item.trim()));
    // The engine loads and measures each kernel of the list, so a repeated name counts once.
    return items.every((item) => item !== undefined) ? [...new Set(items)] : undefined;
  },
};

const optionalPort: Kind<number | null> = integer(0, 65535);

const fraction = (min: number, max: number, unit: string): Kind<number> => ({
  rule: `a number from ${min} to ${max}`,
  type: `number, ${min} to ${max}`,
  unit,
  parse: (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  },
});

const optionalShare: Kind<number | null> = fraction(0, 1, 'share');

const optionalMs: Kind<number | null> = integer(1, 86_400_000, 'ms');

const optionalTokens: Kind<number | null> = integer(1, 1_000_000, 'tokens');

const optionalLayer: Kind<number | null> = integer(1, 9999, 'layer');

const auditMode: Kind<'off' | 'idle' | number> = {
  rule: 'off, idle, or a number from 0.01 to 1',
  type: 'off, idle, or number, 0.01 to 1',
  unit: 'share',
  parse: (value) => (value === 'off' || value === 'idle' ? value : fraction(0.01, 1, '').parse(value)),
};

const exitLayer: Kind<number | null> = {
  rule: 'an exit layer of the model, or "deepest"',
  type: 'integer, or deepest',
  unit: 'layer',
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

type AnySpec = OptionSpec<never> | OptionSpec<unknown>;

/** The options by topic. */
export const OPTION_GROUPS = {
  'Configuration file': {
    config: spec(
      'config',
      'FILE',
      optionalText,
      null,
      'YAML or JSON file with an entry for each option; flags and variables win over it',
      'none',
    ),
  },
  'Address and ports': {
    port: spec('port', 'N', integer(0, 65535), 8080, 'port to listen on; 0 takes a free one'),
    opsPort: spec(
      'ops-port',
      'N',
      optionalPort,
      null,
      'moves /metrics and the API documents to a port with its own connection limit',
      'none',
    ),
    mainMetrics: spec('main-metrics', 'on|off', onOff, false, 'keeps /metrics on the first port beside --ops-port'),
    host: spec(
      'host',
      'ADDRESS',
      optionalText,
      null,
      'address to listen on; 127.0.0.1: this machine only, 0.0.0.0: every address',
      '127.0.0.1, or 0.0.0.0 with API keys',
    ),
  },
  'Model and hardware': {
    model: spec('model', 'DIR', text, EMBEDDED_MODEL, 'model folder that `sortie convert` wrote', 'the embedded model'),
    modelName: spec(
      'model-name',
      'NAMES',
      nameList,
      [],
      'model names in requests; all name the one model, and an answer has the name of its request',
      "the manifest's name",
    ),
    samplingDefaults: spec(
      'sampling-defaults',
      'SOURCE',
      oneOf('model', 'openai'),
      'model',
      "sampling of requests that state none: the model's, or temperature 1, top_p 1 and no rule",
    ),
    kernels: spec('kernels', 'LIST', kernelList, null, 'kernels to load and measure', 'all of the model'),
    device: spec('device', 'NAME', oneOf('cpu', 'cuda'), 'cpu', 'hardware that runs the model'),
    threads: spec(
      'threads',
      'N',
      integer(1, 1024, 'threads'),
      availableParallelism(),
      'threads of the engine: physical cores that no other process needs',
      'all cores',
    ),
    kvMemory: spec('kv-memory', 'SIZE', bytes(2 ** 20, '1MiB'), 2 ** 30, 'memory of the KV cache', '1GiB'),
  },
  Capacity: {
    maxRunning: spec('max-running', 'N', integer(1, 1024, 'sequences'), 32, 'most sequences that run at a time'),
    maxQueue: spec(
      'max-queue',
      'N',
      integer(0, 1_000_000, 'sequences'),
      256,
      'most sequences that wait, 0 for none; one more gets a 429',
    ),
    prefillChunk: spec(
      'prefill-chunk',
      'TOKENS',
      integer(1, 8192, 'tokens'),
      128,
      'most prompt tokens between two decode steps; more: faster prompts, longer gaps',
    ),
    prefixReuse: spec(
      'prefix-reuse',
      'off|key|all',
      prefixReuse,
      'key',
      'reuses the KV cache of equal prompt beginnings: within each API key, or across all keys',
    ),
    speculate: spec(
      'speculate',
      'ANSWERS',
      oneOf('off', 'unseeded', 'all'),
      'unseeded',
      'answers that use drafts while they decode alone; unseeded: sampled without a seed',
    ),
  },
  'Depth and length': {
    defaultExit: spec(
      'default-exit',
      'LAYER',
      exitLayer,
      null,
      'exit of requests that state neither a budget nor a depth',
      'deepest',
    ),
    minExit: spec(
      'min-exit',
      'LAYER',
      optionalLayer,
      null,
      "shallowest exit of a request; a key's own bound wins",
      'the shallowest',
    ),
    maxExit: spec(
      'max-exit',
      'LAYER',
      optionalLayer,
      null,
      "deepest exit of a request; a key's own bound wins",
      'the deepest',
    ),
    minQuality: spec(
      'min-quality',
      'SHARE',
      optionalShare,
      null,
      'least estimated agreement with full depth of a request that states none',
      'none',
    ),
    maxTokensDefault: spec(
      'max-tokens-default',
      'TOKENS',
      optionalTokens,
      null,
      'most tokens of a chat answer whose request has no max_tokens; a bound ends the loops of a small model',
      'to the end of the context',
    ),
    maxChoices: spec(
      'max-choices',
      'N',
      integer(1, 4096, 'answers'),
      64,
      'most answers to one request (prompts times n); more get a 400',
    ),
  },
  Audits: {
    audit: spec(
      'audit',
      'off|idle|SHARE',
      auditMode,
      'idle',
      "compares answers of early exits with full depth while no request runs, or with this share of the engine's time",
    ),
    auditCpuShare: spec(
      'audit-cpu-share',
      'SHARE',
      fraction(0.01, 1, 'share'),
      1,
      'most of the idle time that audits take',
    ),
  },
  'Requests without a budget': {
    defaultBudget: spec(
      'default-budget',
      'MS',
      optionalMs,
      null,
      'total latency budget of requests that state none',
      'none',
    ),
    noBudgetShare: spec(
      'no-budget-share',
      'SHARE',
      fraction(0.01, 1, 'share'),
      0.1,
      'share of the machine that these requests get under any load',
    ),
    shedDepth: spec(
      'shed-depth',
      'on|off',
      onOff,
      false,
      'under load these requests get shallower; off: they keep full depth and wait',
    ),
  },
  Planning: {
    attainmentWeight: spec(
      'attainment-weight',
      'SHARE',
      fraction(0, 1, 'share'),
      defaultPolicy.attainmentWeight,
      'attainment against quality: 1 risks no budget for depth, 0 weighs quality alone',
    ),
    arrivalHeadroom: spec(
      'arrival-headroom',
      'X',
      fraction(0, 10, 'factor'),
      defaultPolicy.arrivalHeadroom,
      'plans leave time for this many times the expected arrivals; 0 leaves none',
    ),
    maxStall: spec(
      'max-stall',
      'MS',
      integer(1, 60_000, 'ms'),
      120,
      'longest stall of other sequences by one prompt chunk, if a smaller chunk exists',
    ),
  },
  'Measured costs': {
    cacheDir: spec(
      'cache-dir',
      'DIR',
      text,
      defaultCacheDir(process.env),
      'folder that keeps measured step costs between starts',
      '$XDG_CACHE_HOME/sortie or ~/.cache/sortie',
    ),
    recalibrate: spec('recalibrate', 'on|off', onOff, false, 'measures step costs again although the cache has them'),
  },
  Access: {
    apiKey: spec('api-key', 'KEYS', secretList, [], 'API keys; the process list shows this flag', 'none'),
    apiKeyFile: spec(
      'api-key-file',
      'FILE',
      optionalText,
      null,
      'file with an API key a line, or JSON with limits and bounds of each key',
      'none',
    ),
    allowedHosts: spec(
      'allowed-hosts',
      'NAMES',
      list,
      [],
      'names in the Host header that are served, or *; localhost, IP addresses and names without a dot always are',
      'any; local names only for a server without keys on a loopback address',
    ),
    trustedProxies: spec(
      'trusted-proxies',
      'ADDRESSES',
      networkList,
      [],
      'proxies whose X-Request-Start, X-Forwarded-For, X-Forwarded-Proto and traceparent are believed',
      'none',
    ),
    corsOrigin: spec('cors-origin', 'ORIGINS', originList, [], 'origins of web pages that may call, or *', 'none'),
  },
  Clients: {
    maxBody: spec(
      'max-body',
      'SIZE',
      bytes(1024, '1KiB'),
      4 * 2 ** 20,
      'largest request body; a larger one gets a 413',
      '4MiB',
    ),
    maxConnections: spec(
      'max-connections',
      'N',
      integer(1, 1_000_000, 'connections'),
      4096,
      'most open connections of a port; further ones are closed',
    ),
    requestTimeout: spec(
      'request-timeout',
      'SECONDS',
      seconds(0.1, 3600),
      30,
      'time for a request to arrive in full; a slower one gets a 408',
    ),
    stallTimeout: spec(
      'stall-timeout',
      'SECONDS',
      seconds(0.1, 3600),
      60,
      'time without reading after which the connection of a client is closed',
    ),
    keepAlive: spec('keep-alive', 'SECONDS', seconds(0.1, 3600), 15, 'interval of comment lines in a silent stream'),
    loadHeader: spec(
      'load-header',
      'on|off',
      onOff,
      false,
      'X-Sortie-Load in every response: the wait of a new request at the shallowest exit, ms',
    ),
  },
  'Shutdown, log and metrics': {
    drainTimeout: spec(
      'drain-timeout',
      'SECONDS',
      seconds(0, 3600),
      30,
      'time that running answers have to finish after SIGTERM',
    ),
    logLevel: spec(
      'log-level',
      'LEVEL',
      oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
      'info',
      'least severe level that is logged',
    ),
    logFormat: spec(
      'log-format',
      'FORMAT',
      oneOf('auto', 'pretty', 'json'),
      'auto',
      'form of the log; auto: pretty on a terminal, JSON elsewhere',
    ),
    logPrompts: spec('log-prompts', 'on|off', onOff, false, 'writes request bodies to the log'),
    metricsPrefix: spec(
      'metrics-prefix',
      'PREFIX',
      oneOf('sortie_', 'vllm:'),
      'sortie_',
      "prefix of the series that vLLM has too; vllm: serves vLLM's dashboards",
    ),
  },
} as const satisfies Record<string, Record<string, AnySpec>>;

/** Every option by its key. */
export const SERVE_OPTIONS = {
  ...OPTION_GROUPS['Configuration file'],
  ...OPTION_GROUPS['Address and ports'],
  ...OPTION_GROUPS['Model and hardware'],
  ...OPTION_GROUPS.Capacity,
  ...OPTION_GROUPS['Depth and length'],
  ...OPTION_GROUPS.Audits,
  ...OPTION_GROUPS['Requests without a budget'],
  ...OPTION_GROUPS.Planning,
  ...OPTION_GROUPS['Measured costs'],
  ...OPTION_GROUPS.Access,
  ...OPTION_GROUPS.Clients,
  ...OPTION_GROUPS['Shutdown, log and metrics'],
} as const satisfies Record<string, AnySpec>;

/** The value of every option. */
export type ServeOptions = {
  readonly [K in keyof typeof SERVE_OPTIONS]: (typeof SERVE_OPTIONS)[K] extends OptionSpec<infer T> ? T : never;
};

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
