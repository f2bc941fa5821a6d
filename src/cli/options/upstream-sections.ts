/**
 * The sections `upstreams` and `models` of a configuration file: fields, rules, errors.
 *
 * Must not know: keys, servers.
 */
import { mostSimilar } from '../../util/similar.js';
import { apiUrl, headerName, integer, type Kind, oneOf, onMiss, text } from './kinds.js';

/** How an upstream's late answers are kept from a client: not at all, by their own sentences, or by the local model. */
export const NET_MODES = ['off', 'land', 'answer'] as const;
export type NetMode = (typeof NET_MODES)[number];

/** A server with the API of OpenAI, as the operator describes it. */
export interface UpstreamEntry {
  readonly name: string;
  readonly url: string;
  /** The model's name there. */
  readonly model: string;
  /** The variable or the file that holds the API key; null for none. */
  readonly keyEnv: string | null;
  readonly keyFile: string | null;
  readonly deadlineHeader: string;
  /** Sent with every request. */
  readonly extraHeaders: Readonly<Record<string, string>>;
}

/** A name that callers use. Null: the request, its key or the server decides. */
export interface ModelEntry {
  readonly name: string;
  /** The name of an upstream. */
  readonly upstream: string;
  readonly latencyBudgetMs: number | null;
  readonly onMiss: 'land' | 'continue' | 'truncate' | 'reject' | null;
  readonly commit: 'text' | 'sentence' | null;
  readonly net: NetMode | null;
}

export interface UpstreamSections {
  readonly file: string;
  readonly upstreams: readonly UpstreamEntry[];
  /** Never empty where `upstreams` is not: an upstream that no model names has a model of its own name. */
  readonly models: readonly ModelEntry[];
}

export const DEADLINE_HEADER = 'X-Latency-Budget-Ms';

/** Headers of the gateway and of the connection. */
const OWN_HEADERS = [
  ...['accept', 'accept-encoding', 'authorization', 'connection', 'content-length', 'content-type', 'expect', 'host'],
  ...['keep-alive', 'te', 'traceparent', 'transfer-encoding', 'upgrade', 'user-agent', 'x-request-id'],
];

/** A name that a client may write as `model`. */
const callName: Kind<string> = {
  rule: 'a name of at most 128 printable characters without a space',
  placeholder: 'NAME',
  type: 'name',
  parse: (value) => (/^[\x21-\x7e]{1,128}$/.test(value) ? value : undefined),
};

/** A value on the wire. It may be a secret. */
const headerValue: Kind<string> = {
  rule: 'a text of printable ASCII characters',
  placeholder: 'TEXT',
  type: 'text',
  isSecret: true,
  parse: (value) => (/^[\x20-\x7e]{1,4096}$/.test(value) ? value : undefined),
};

const UPSTREAM = {
  url: apiUrl,
  model: text('NAME'),
  key_env: text('VARIABLE'),
  key_file: text('FILE'),
  deadline_header: headerName,
};

const MODEL = {
  upstream: text('NAME'),
  latency_budget_ms: integer(1, 86_400_000, 'ms'),
  budget_on_miss: onMiss,
  commit: oneOf('PART', 'text', 'sentence'),
  net: oneOf('MODE', ...NET_MODES),
};

type Fields = Readonly<Record<string, unknown>>;
type Values<T extends Readonly<Record<string, Kind<unknown>>>> = {
  readonly [K in keyof T]: (T[K] extends Kind<infer V> ? V : never) | null;
};

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

class Reader {
  /** @param fault makes the error of a wrong entry */
  constructor(
    private readonly file: string,
    private readonly fault: (message: string) => Error,
  ) {}

  fail(message: string): Error {
    return this.fault(`${this.file}: ${message}`);
  }

  /** The entries of a section, by name. An empty section has none. */
  entries(section: string, value: unknown): [name: string, fields: Fields][] {
    if (value === undefined || value === null) return [];
    if (!isFields(value)) throw this.fail(`${section} must hold entries by name`);
    return Object.entries(value).map(([name, fields]) => {
      if (callName.parse(name) === undefined)
        throw this.fail(`a name in ${section} must be ${callName.rule}, got "${name}"`);
      if (!isFields(fields))
        throw this.fail(`${section}.${name} must hold fields, such as ${section === 'models' ? 'upstream' : 'url'}`);
      return [name, fields];
    });
  }

  /** @param more fields that have no kind */
  values<T extends Readonly<Record<string, Kind<unknown>>>>(
    place: string,
    fields: Fields,
    kinds: T,
    ...more: readonly string[]
  ): Values<T> {
    const known = [...Object.keys(kinds), ...more];
    for (const name of Object.keys(fields).filter((each) => !known.includes(each))) {
      const similar = mostSimilar(name, known);
      const hint = similar === null ? `it has ${known.join(', ')}` : `did you mean ${similar}?`;
      throw this.fail(`${place}.${name} is not a field; ${hint}`);
    }
    const read = Object.entries(kinds).map(([name, kind]) => [
      name,
      this.value(`${place}.${name}`, fields[name], kind),
    ]);
    return Object.fromEntries(read) as Values<T>;
  }

  value<T>(place: string, value: unknown, kind: Kind<T>): T | null {
    if (value === undefined || value === null || value === '') return null;
    const scalar =
      typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? `${value}` : null;
    const parsed = scalar === null ? undefined : kind.parse(scalar);
    if (parsed !== undefined) return parsed;
    const shown = kind.isSecret === true ? '' : `, got ${scalar === null ? 'a list or fields' : `"${scalar}"`}`;
    throw this.fail(`${place} must be ${kind.rule}${shown}`);
  }

  required<T>(place: string, value: T | null): T {
    if (value === null) throw this.fail(`${place} is required`);
    return value;
  }

  headers(place: string, value: unknown, deadlineHeader: string): Readonly<Record<string, string>> {
    if (value === undefined || value === null) return {};
    if (!isFields(value)) throw this.fail(`${place} must hold headers by name`);
    const own = [...OWN_HEADERS, deadlineHeader.toLowerCase()];
    const read = Object.entries(value).map(([name, content]) => {
      if (headerName.parse(name) === undefined)
        throw this.fail(`a name in ${place} must be ${headerName.rule}, got "${name}"`);
      if (own.includes(name.toLowerCase()))
        throw this.fail(`${place}.${name} must not be a header that the gateway sets itself`);
      return [
        name.toLowerCase(),
        this.required(`${place}.${name}`, this.value(`${place}.${name}`, content, headerValue)),
      ];
    });
    return Object.fromEntries(read) as Readonly<Record<string, string>>;
  }
}

function upstreamEntry(reader: Reader, name: string, fields: Fields): UpstreamEntry {
  const place = `upstreams.${name}`;
  const read = reader.values(place, fields, UPSTREAM, 'extra_headers');
  if (read.key_env !== null && read.key_file !== null)
    throw reader.fail(`${place} must have key_env or key_file, got both`);
  const deadlineHeader = read.deadline_header ?? DEADLINE_HEADER;
  return {
    name,
    url: reader.required(`${place}.url`, read.url),
    model: read.model ?? name,
    keyEnv: read.key_env,
    keyFile: read.key_file,
    deadlineHeader,
    extraHeaders: reader.headers(`${place}.extra_headers`, fields.extra_headers, deadlineHeader),
  };
}

function modelEntry(reader: Reader, name: string, fields: Fields, upstreams: readonly UpstreamEntry[]): ModelEntry {
  const place = `models.${name}`;
  const read = reader.values(place, fields, MODEL);
  const upstream = reader.required(`${place}.upstream`, read.upstream);
  const known = upstreams.map((each) => each.name);
  if (!known.includes(upstream)) {
    throw reader.fail(`${place}.upstream must be one of upstreams (${known.join(', ') || 'none'}), got "${upstream}"`);
  }
  const { latency_budget_ms: latencyBudgetMs, budget_on_miss: onMiss, commit, net } = read;
  return { name, upstream, latencyBudgetMs, onMiss, commit, net };
}

/** The model of an upstream that has none in `models`. */
export const modelOfOwnName = (name: string): ModelEntry => ({
  name,
  upstream: name,
  latencyBudgetMs: null,
  onMiss: null,
  commit: null,
  net: null,
});

/** @throws the error of `fault` for an entry that breaks its rule */
export function upstreamSections(
  file: string,
  sections: { readonly upstreams?: unknown; readonly models?: unknown },
  fault: (message: string) => Error,
): UpstreamSections {
  const reader = new Reader(file, fault);
  const upstreams = reader
    .entries('upstreams', sections.upstreams)
    .map(([name, fields]) => upstreamEntry(reader, name, fields));
  const models = reader
    .entries('models', sections.models)
    .map(([name, fields]) => modelEntry(reader, name, fields, upstreams));
  const unnamed = upstreams.filter(({ name }) => !models.some(({ upstream }) => upstream === name));
  const clash = unnamed.find(({ name }) => models.some((model) => model.name === name));
  if (clash !== undefined) {
    throw reader.fail(`models.${clash.name} must not have the name of an upstream that has no model of its own`);
  }
  return { file, upstreams, models: [...models, ...unnamed.map(({ name }) => modelOfOwnName(name))] };
}
