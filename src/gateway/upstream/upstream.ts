/** Models that run elsewhere: addresses, keys, names. Must not know: connections, HTTP frameworks. */
import type { ServeOptions } from '../../cli/options/config.js';
import {
  type ModelEntry,
  modelOfOwnName,
  type UpstreamEntry,
  DEADLINE_HEADER,
} from '../../cli/options/upstream-sections.js';

/** A server with the API of OpenAI. Names of its headers are in lower case. */
export interface Upstream extends Omit<UpstreamEntry, 'url' | 'keyEnv' | 'keyFile'> {
  /** The base of the API, such as https://api.example.com/v1, without a slash at the end. */
  readonly url: URL;
  /** Null: the server takes requests without a key. */
  readonly key: string | null;
}

/** A name that callers use. */
export interface UpstreamModel {
  readonly name: string;
  readonly upstream: Upstream;
  readonly defaults: Pick<ModelEntry, 'latencyBudgetMs' | 'onMiss' | 'commit' | 'net'>;
}

/** The options that describe an upstream. */
export type UpstreamOptions = Pick<ServeOptions, 'upstream' | 'upstreamModel' | 'upstreamKeyEnv' | 'sections'>;

/** The surroundings of the options. */
export interface Surroundings {
  /** Names of the local model, which keep their meaning. */
  readonly localNames: readonly string[];
  /** Variables, which hold keys. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** @throws Error for a file that can't be read */
  readonly readFile: (file: string) => string;
  /** Makes the error of a wrong option. */
  readonly fault: (message: string) => Error;
}

/** The upstream of the flags, in the form of a configuration file; null without one. */
function entryOfFlags(options: UpstreamOptions, fault: Surroundings['fault']): UpstreamEntry | null {
  const { upstream: url, upstreamModel: name, upstreamKeyEnv: keyEnv } = options;
  if (url === null && name === null && keyEnv === null) return null;
  if (url === null) throw fault('--upstream must be set beside --upstream-model and --upstream-key-env');
  if (name === null) throw fault('--upstream-model must name the model of --upstream');
  const entry = { name, url, model: name, keyEnv, keyFile: null };
  return { ...entry, deadlineHeader: DEADLINE_HEADER, extraHeaders: {} };
}

/** @param place of the entry in errors; null: the flags @throws the error of `fault`, without the key */
function upstreamOf(
  { keyEnv, keyFile, ...entry }: UpstreamEntry,
  place: string | null,
  { env, readFile, fault }: Surroundings,
): Upstream {
  let key: string | null = null;
  if (keyFile !== null) {
    try {
      key = readFile(keyFile).trim();
    } catch {
      // The check below reports it.
    }
    if (key === null || !/^[\x21-\x7e]+$/.test(key))
      throw fault(`${place}.key_file must be a readable file that holds a key, got "${keyFile}"`);
  } else if (keyEnv !== null) {
    key = env[keyEnv] ?? '';
    const option = place === null ? '--upstream-key-env' : `${place}.key_env`;
    if (key === '') throw fault(`${option} must name a variable that holds a key, got "${keyEnv}"`);
  }
  return { ...entry, url: new URL(entry.url), key, deadlineHeader: entry.deadlineHeader.toLowerCase() };
}

/**
 * The models of the flags and of the configuration file.
 * @returns none without an upstream
 * @throws the error of `fault` for a missing key, or for a name that two models have
 */
export function upstreamModels(options: UpstreamOptions, surroundings: Surroundings): readonly UpstreamModel[] {
  const { localNames, fault } = surroundings;
  const { file = '', upstreams: entries = [], models: named = [] } = options.sections ?? {};
  const byFlags = entryOfFlags(options, fault);
  const upstreams = new Map(
    entries.map((entry) => [entry.name, upstreamOf(entry, `${file}: upstreams.${entry.name}`, surroundings)]),
  );
  const models = named.map((entry) => {
    const upstream = upstreams.get(entry.upstream);
    if (upstream === undefined) throw new Error(`no upstream ${entry.upstream}`);
    return { place: `${file}: models.${entry.name}`, model: modelOf(entry, upstream) };
  });
  if (byFlags !== null) {
    const model = modelOf(modelOfOwnName(byFlags.name), upstreamOf(byFlags, null, surroundings));
    models.unshift({ place: '--upstream-model', model });
  }
  for (const [index, { place, model }] of models.entries()) {
    const { name } = model;
    if (localNames.some((local) => local === name || name.startsWith(`${local}:`))) {
      throw fault(`${place} must differ from the names of the local model, got "${name}"`);
    }
    if (models.findIndex((each) => each.model.name === name) !== index) {
      throw fault(`${place} must differ from the name of another model, got "${name}"`);
    }
  }
  return models.map(({ model }) => model);
}

function modelOf({ name, latencyBudgetMs, onMiss, commit, net }: ModelEntry, upstream: Upstream): UpstreamModel {
  return { name, upstream, defaults: { latencyBudgetMs, onMiss, commit, net } };
}

/** The value of the deadline header: milliseconds if its name ends so, else seconds. */
export function restOfBudget(header: string, ms: number): string {
  return header.endsWith('-ms') ? String(Math.floor(ms)) : (Math.floor(ms) / 1000).toFixed(3);
}
