/** The table of all options: default, unit, range, effect. */
import { availableParallelism } from 'node:os';
import {
  apiUrl,
  bytes,
  device,
  integer,
  type Kind,
  list,
  nameList,
  networkList,
  oneOf,
  onMiss,
  onOff,
  originList,
  seconds,
  secretList,
  servedKernelList,
  share,
  text,
} from './kinds.js';
import { NET_MODES, type UpstreamSections } from './upstream-sections.js';
import { defaultCacheDir, EMBEDDED_MODEL } from './paths.js';
import { kebab } from '../../util/kebab.js';

interface Row<T> {
  readonly kind: Kind<T>;
  readonly default: T;
  /** The effect, in --help and in docs/configuration.md. */
  readonly help: string;
  /** The default as --help names it, if its plain form says little. */
  readonly defaultText?: string;
}

export interface OptionSpec<T> extends Row<T> {
  /** The flag without dashes. The environment variable is SORTIE_ + upper case with underscores. */
  readonly flag: string;
  /** The heading in --help. */
  readonly group: string;
}

/** @param initial the default; `defaultText` says what null stands for */
function option<T>(kind: Kind<T>, initial: NoInfer<T>, help: string, defaultText?: string): Row<T>;
function option<T>(kind: Kind<T>, initial: null, help: string, defaultText: string): Row<T | null>;
function option<T>(kind: Kind<T>, initial: T, help: string, defaultText?: string): Row<T> {
  return { kind, default: initial, help, ...(defaultText !== undefined && { defaultText }) };
}

/** The options of a topic. The flag of an option is its key with hyphens. */
function group<T extends Readonly<Record<string, Row<unknown>>>>(title: string, rows: T) {
  const named = Object.entries(rows).map(([key, row]) => {
    const flag = kebab(key);
    return [key, { ...row, flag, group: title }] as const;
  });
  return Object.fromEntries(named) as {
    readonly [K in keyof T]: T[K] extends Row<infer V> ? OptionSpec<V> : never;
  };
}

/** Every option by its key, in the order of --help. */
export const SERVE_OPTIONS = {
  ...group('Configuration file', {
    config: option(
      text('FILE'),
      null,
      'YAML or JSON file with an entry for each option; flags and variables win over it',
      'none',
    ),
  }),
  ...group('Address and ports', {
    port: option(integer(0, 65535), 8080, 'port to listen on; 0 takes a free one'),
    opsPort: option(
      integer(0, 65535),
      null,
      'moves /metrics and the API documents to a port with its own connection limit',
      'none',
    ),
    mainMetrics: option(onOff, false, 'keeps /metrics on the first port beside --ops-port'),
    host: option(
      text('ADDRESS'),
      null,
      'address to listen on; 127.0.0.1: this machine only, 0.0.0.0: every address',
      '127.0.0.1, or 0.0.0.0 with API keys',
    ),
  }),
  ...group('Model and hardware', {
    model: option(
      text('MODEL'),
      EMBEDDED_MODEL,
      'model folder that `sortie convert` wrote; or a GGUF file, a Hugging Face folder or ORG/NAME[@REVISION][:FILE] of the ' +
        'Hugging Face Hub, each converted once into --cache-dir',
      'the embedded model',
    ),
    modelName: option(
      nameList,
      [],
      'model names in requests; all name the one model, and an answer has the name of its request',
      "the manifest's name",
    ),
    kernels: option(servedKernelList, null, 'kernels to load and measure', 'all of the folder'),
    device: option(device, { kind: 'cpu', index: 0 }, 'hardware that runs the model; cuda is cuda:0', 'cpu'),
    threads: option(
      integer(1, 1024, 'threads'),
      availableParallelism(),
      'threads of the engine, or processes of --no-local: physical cores that no other process needs',
      'all cores',
    ),
    kvMemory: option(bytes(2 ** 20, '1MiB'), 2 ** 30, 'memory of the KV cache', '1GiB'),
  }),
  ...group('Upstream model', {
    upstream: option(apiUrl, null, 'base of the OpenAI API of a model that runs elsewhere', 'none'),
    upstreamModel: option(text('NAME'), null, "that model's name, there and in requests here", 'none'),
    upstreamKeyEnv: option(text('VARIABLE'), null, 'variable that holds the API key of the upstream', 'no key'),
    noLocal: option(
      onOff,
      false,
      'serves upstream models only, without an engine, by --threads processes; other options of the local model have no effect',
    ),
    net: option(
      oneOf('MODE', ...NET_MODES),
      'answer',
      'default of X-Net: the local model answers for a late or failed upstream, its text lands only, or it passes late',
    ),
  }),
  ...group('Capacity', {
    maxRunning: option(integer(1, 1024, 'sequences'), 32, 'most sequences that run at a time'),
    maxQueue: option(
      integer(0, 1_000_000, 'sequences'),
      256,
      'most sequences of a client that wait, 0 for none; one more gets a 429',
    ),
    prefillChunk: option(
      integer(1, 8192, 'tokens'),
      128,
      'most prompt tokens between two decode steps; more: faster prompts, longer gaps',
    ),
    prefixReuse: option(
      oneOf('SCOPE', 'off', 'key', 'all'),
      'key',
      'reuses the KV cache of equal prompt beginnings: within each API key, or across all keys',
    ),
    speculate: option(
      oneOf('ANSWERS', 'off', 'unseeded', 'all'),
      'unseeded',
      'answers that use drafts while they decode alone; unseeded: sampled without a seed',
    ),
  }),
  ...group('Depth and length', {
    promptExit: option(
      onOff,
      true,
      "prompts leave the layers at the model's prompt exit, where it has one; the text is the same",
    ),
    maxTokensDefault: option(
      integer(1, 1_000_000, 'tokens'),
      null,
      'most tokens of a chat answer whose request has no max_tokens; a bound ends the loops of a small model',
      "the model's, or to the end of the context",
    ),
  }),
  ...group('Requests without a budget', {
    defaultBudget: option(
      integer(1, 86_400_000, 'ms'),
      null,
      'total latency budget of requests that state none',
      'none',
    ),
  }),
  ...group('Planning', {
    minAccuracy: option(
      share(0),
      0.5,
      "least share of full depth's right answers of an exit that the scheduler or a net chooses; requests may name any exit",
    ),
    onMiss: option(onMiss, 'land', 'default of X-Budget-On-Miss; without a total budget land is continue'),
  }),
  ...group('Measured costs', {
    cacheDir: option(
      text('DIR'),
      defaultCacheDir(process.env),
      'folder of measured step costs and of converted models',
      '$XDG_CACHE_HOME/sortie or ~/.cache/sortie',
    ),
  }),
  ...group('Access', {
    apiKey: option(secretList, [], 'API keys; the process list shows this flag', 'none'),
    apiKeyFile: option(
      text('FILE'),
      null,
      'file with an API key a line, or JSON with limits and bounds of each key',
      'none',
    ),
    allowedHosts: option(
      list('NAMES'),
      [],
      'names in the Host header that are served, or *; localhost, IP addresses and names without a dot always are',
      'any; local names only for a server without keys on a loopback address',
    ),
    trustedProxies: option(
      networkList,
      [],
      'proxies whose X-Request-Start, X-Forwarded-For, X-Forwarded-Proto and traceparent are believed',
      'none',
    ),
    corsOrigin: option(originList, [], 'origins of web pages that may call, or *', 'none'),
  }),
  ...group('Clients', {
    maxBody: option(bytes(1024, '1KiB'), 4 * 2 ** 20, 'largest request body; a larger one gets a 413', '4MiB'),
    maxConnections: option(
      integer(1, 1_000_000, 'connections'),
      4096,
      'most open connections of a port; further ones are closed',
    ),
    requestTimeout: option(seconds(0.1, 3600), 30, 'time for a request to arrive in full; a slower one gets a 408'),
    stallTimeout: option(
      seconds(0.1, 3600),
      60,
      'time without reading after which the connection of a client is closed',
    ),
    keepAlive: option(seconds(0.1, 3600), 15, 'interval of comment lines in a silent stream'),
    readyWait: option(seconds(0.1, 86_400), 60, 'predicted wait of a new request above which /health/ready is a 503'),
  }),
  ...group('Shutdown, log and metrics', {
    drainTimeout: option(seconds(0, 3600), 30, 'time that running answers have to finish after SIGTERM'),
    logLevel: option(
      oneOf('LEVEL', 'trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
      'info',
      'least severe level that is logged',
    ),
    logPrompts: option(onOff, false, 'writes request bodies to the log'),
  }),
};

/** The value of every option. */
export type ServeOptions = {
  readonly [K in keyof typeof SERVE_OPTIONS]: (typeof SERVE_OPTIONS)[K] extends OptionSpec<infer T> ? T : never;
} & {
  /** Upstreams of a configuration file; absent: none. */
  readonly sections?: UpstreamSections;
};
