/** Models that run elsewhere: addresses, keys, names. Must not know: connections, HTTP frameworks. */
import type { ServeOptions } from '../../cli/options/config.js';
import {
  type ModelEntry,
  modelOfOwnName,
  type UpstreamEntry,
  DEADLINE_HEADER,
} from '../../cli/options/upstream-sections.js';
import { at } from '../../util/at.js';

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
  return { name, url, model: name, keyEnv, keyFile: null, deadlineHeader: DEADLINE_HEADER, extraHeaders: {} };
}

/** @param option that names the key, for errors @throws the error of `fault`, without the key */
function upstreamOf(
  { keyEnv, keyFile, ...entry }: UpstreamEntry,
  option: string,
  { env, readFile, fault }: Surroundings,
): Upstream {
  let key: string | null = null;
  if (keyEnv !== null) key = env[keyEnv] ?? '';
  if (keyFile !== null) {
    try {
      key = readFile(keyFile).trim();
    } catch {
      key = '';
    }
  }
  const isKey = keyFile === null ? key !== '' : /^[\x21-\x7e]+$/.test(key ?? '');
  const rule = keyFile === null ? 'name a variable that holds' : 'be a readable file that holds';
  if (!isKey) throw fault(`${option} must ${rule} a key, got "${keyFile ?? keyEnv ?? ''}"`);
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
  const upstreams = entries.map((entry) => {
    const field = entry.keyFile === null ? 'key_env' : 'key_file';
    return upstreamOf(entry, `${file}: upstreams.${entry.name}.${field}`, surroundings);
  });
  const modelOf = (place: string, entry: ModelEntry, upstream: Upstream) => ({
    place,
    model: { name: entry.name, upstream, defaults: entry },
  });
  const models = named.map((entry) => {
    const place = entries.findIndex(({ name }) => name === entry.upstream);
    return modelOf(`${file}: models.${entry.name}`, entry, at(upstreams, place));
  });
  if (byFlags !== null) {
    const upstream = upstreamOf(byFlags, '--upstream-key-env', surroundings);
    models.unshift(modelOf('--upstream-model', modelOfOwnName(byFlags.name), upstream));
  }
  for (const [index, { place, model }] of models.entries()) {
    const { name } = model;
    const isLocal = localNames.some((local) => local === name || name.startsWith(`${local}:`));
    if (isLocal || models.findIndex((each) => each.model.name === name) !== index) {
      const other = isLocal ? 'the names of the local model' : 'the name of another model';
      throw fault(`${place} must differ from ${other}, got "${name}"`);
    }
  }
  return models.map(({ model }) => model);
}

/** The header with the rest of the budget at this moment: in milliseconds if its name ends so, else in seconds. */
export function budgetHeader({ deadlineHeader }: Pick<Upstream, 'deadlineHeader'>, msLeft: number) {
  const ms = Math.floor(Math.max(1, msLeft));
  return { [deadlineHeader]: deadlineHeader.endsWith('-ms') ? String(ms) : (ms / 1000).toFixed(3) };
}
