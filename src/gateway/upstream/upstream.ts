/** Models that run elsewhere: addresses, keys, names. Must not know: connections, HTTP frameworks. */
import {
  type ModelEntry,
  modelOfOwnName,
  type UpstreamEntry,
  type UpstreamSections,
  DEADLINE_HEADER,
} from '../../cli/options/upstream-sections.js';

/** A server with the API of OpenAI. */
export interface Upstream {
  /** Its name in the configuration. */
  readonly name: string;
  /** The model's name there. */
  readonly model: string;
  /** The base of the API, such as https://api.example.com/v1, without a slash at the end. */
  readonly url: URL;
  /** Null: the server takes requests without a key. */
  readonly key: string | null;
  /** The header that carries the rest of a budget, in lower case. */
  readonly deadlineHeader: string;
  /** Share of right answers of the model, 0 to 1. */
  readonly accuracy: number;
  /** Further headers of every request, by names in lower case. */
  readonly extraHeaders: Readonly<Record<string, string>>;
}

/** A name that callers use. */
export interface UpstreamModel {
  readonly name: string;
  readonly upstream: Upstream;
  readonly defaults: Pick<ModelEntry, 'latencyBudgetMs' | 'onMiss' | 'commit' | 'net'>;
}

/** The options that describe an upstream. */
export interface UpstreamOptions {
  readonly upstream: string | null;
  readonly upstreamModel: string | null;
  readonly upstreamKeyEnv: string | null;
  readonly sections?: UpstreamSections;
}

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
  return { ...entry, deadlineHeader: DEADLINE_HEADER, accuracy: 1, extraHeaders: {} };
}

/** An upstream, and the names of its options in errors. */
interface Source {
  readonly entry: UpstreamEntry;
  readonly keyEnvOption: string;
  readonly keyFileOption: string;
}

/** @throws the error of `fault`, without the key */
function keyOf({ entry, keyEnvOption, keyFileOption }: Source, { env, readFile, fault }: Surroundings): string | null {
  const { keyEnv, keyFile } = entry;
  if (keyFile !== null) {
    const rule = `${keyFileOption} must be a readable file that holds a key, got "${keyFile}"`;
    let text: string;
    try {
      text = readFile(keyFile).trim();
    } catch {
      throw fault(rule);
    }
    if (!/^[\x21-\x7e]+$/.test(text)) throw fault(rule);
    return text;
  }
  if (keyEnv === null) return null;
  const key = env[keyEnv];
  if (key === undefined || key === '')
    throw fault(`${keyEnvOption} must name a variable that holds a key, got "${keyEnv}"`);
  return key;
}

function upstreamOf(source: Source, surroundings: Surroundings): Upstream {
  const { name, model, url, deadlineHeader, accuracy, extraHeaders } = source.entry;
  const key = keyOf(source, surroundings);
  return { name, model, url: new URL(url), key, deadlineHeader: deadlineHeader.toLowerCase(), accuracy, extraHeaders };
}

/**
 * The models of the flags and of the configuration file.
 * @returns none without an upstream
 * @throws the error of `fault` for a missing key, or for a name that two models have
 */
export function upstreamModels(options: UpstreamOptions, surroundings: Surroundings): readonly UpstreamModel[] {
  const { localNames, fault } = surroundings;
  const { sections } = options;
  const byFlags = entryOfFlags(options, fault);
  const sources: Source[] = (sections?.upstreams ?? []).map((entry) => {
    const place = `${sections?.file ?? ''}: upstreams.${entry.name}`;
    return { entry, keyEnvOption: `${place}.key_env`, keyFileOption: `${place}.key_file` };
  });
  const upstreams = new Map(sources.map((source) => [source.entry.name, upstreamOf(source, surroundings)]));
  const models = (sections?.models ?? []).map((entry) => {
    const upstream = upstreams.get(entry.upstream);
    if (upstream === undefined) throw new Error(`no upstream ${entry.upstream}`);
    return { place: `${sections?.file ?? ''}: models.${entry.name}`, model: modelOf(entry, upstream) };
  });
  if (byFlags !== null) {
    const source = { entry: byFlags, keyEnvOption: '--upstream-key-env', keyFileOption: '' };
    const model = modelOf(modelOfOwnName(byFlags.name), upstreamOf(source, surroundings));
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
