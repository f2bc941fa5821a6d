/**
 * API keys from the option and the file, each with its permissions.
 *
 * No key is kept as text. docs/running.md describes the two forms of the file.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { isValid, type Static, Type, words } from '../../util/schema.js';
import { openPolicy, type RequestPolicy } from '../api/context.js';
import { NET_MODES } from '../../cli/options/upstream-sections.js';
import { SortieRequest } from '../api/schemas/shared.js';
import { OptionError, type ServeOptions } from '../../cli/options/config.js';
import type { Logger } from '../telemetry/log.js';
import { validationMessage } from '../../util/validation-message.js';

export interface KeyLimits {
  readonly requestsPerMinute: number | null;
  /** Prompt and answer tokens together. */
  readonly tokensPerMinute: number | null;
  readonly requestsInFlight: number | null;
}

export interface ApiKey {
  /** SHA-256 of the key. */
  readonly digest: Buffer;
  /** The name in the log; null if the operator gave none. */
  readonly name: string | null;
  readonly limits: KeyLimits;
  readonly policy: RequestPolicy;
}

type KeyOptions = Pick<ServeOptions, 'apiKey' | 'apiKeyFile'>;

/** The form of a key that a client can send in a header as one word. */
const PRESENTABLE = /^[\x21-\x7e]+$/;
const PRESENTABLE_RULE = 'one word of printable ASCII characters';

const closed = { additionalProperties: false };
const count = Type.Optional(Type.Integer({ minimum: 1 }));
/** Completions without a length have 16 tokens, as OpenAI's. */
const longest = Type.Optional(Type.Integer({ minimum: 16 }));
const { latency_budget_ms, slo_ttft_ms, slo_tpot_ms, budget_on_miss } = SortieRequest.properties;
const exitLayer = Type.Optional(Type.Integer());

const KeyEntry = Type.Object(
  {
    key: Type.Optional(Type.String({ pattern: PRESENTABLE.source })),
    sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })),
    name: Type.Optional(Type.String({ pattern: '^[\\w.-]{1,64}$' })),
    limits: Type.Optional(
      Type.Object(
        {
          requests_per_minute: count,
          tokens_per_minute: count,
          requests_in_flight: count,
          max_tokens: longest,
        },
        closed,
      ),
    ),
    default_budget: Type.Optional(
      Type.Object({ latency_budget_ms, slo_ttft_ms, slo_tpot_ms, budget_on_miss }, { ...closed, minProperties: 1 }),
    ),
    budget_on_miss,
    net: Type.Optional(words([...NET_MODES])),
    min_exit_layer: exitLayer,
    max_exit_layer: exitLayer,
  },
  closed,
);
type KeyEntry = Static<typeof KeyEntry>;

const KeyFile = Type.Object({ keys: Type.Array(KeyEntry, { minItems: 1 }) }, closed);

export function keyDigest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** A key without restrictions. */
export function openKey(key: string): ApiKey {
  const limits = { requestsPerMinute: null, tokensPerMinute: null, requestsInFlight: null };
  return { digest: keyDigest(key), name: null, limits, policy: openPolicy };
}

/** Rights of other users on a key file that the log warns of; null for a file of the server alone. */
export function exposure(apiKeyFile: string): string | null {
  const rights = statSync(apiKeyFile).mode & 0o777;
  // A group that reads is common: mounted secrets have mode 640 or 440.
  return (rights & 0o027) === 0 ? null : rights.toString(8).padStart(3, '0');
}

/** @throws OptionError if the file is unreadable or holds no key: a server with a key file must not open to all. */
export function loadApiKeys({ apiKey, apiKeyFile }: KeyOptions): ApiKey[] {
  // The message hides a malformed key, as for keys of the file.
  const wrong = apiKey.findIndex((key) => !PRESENTABLE.test(key));
  if (wrong >= 0) throw new OptionError(`--api-key: key ${wrong + 1} must be ${PRESENTABLE_RULE}`);
  const keys = apiKey.map(openKey);
  if (apiKeyFile === null) return keys;
  let text: string;
  try {
    // Some editors write a byte order mark at the start of either form.
    text = readFileSync(apiKeyFile, 'utf8').replace(/^\uFEFF/, '');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OptionError(`--api-key-file must be a readable file, got "${apiKeyFile}" (${code ?? 'unreadable'})`);
  }
  // A text that starts with a bracket is JSON. Read as lines, a JSON list would make keys of its brackets.
  const isJson = /^\s*[{[]/.test(text);
  const all = [...keys, ...(isJson ? jsonKeys(text) : plainKeys(text, apiKeyFile))];
  const digests = new Set(all.map(({ digest }) => digest.toString('hex')));
  if (digests.size < all.length)
    throw new OptionError('--api-key-file must not repeat a key, nor hold a key of --api-key');
  return all;
}

/** One key per line; a line that starts with # is a comment. Errors name the line and never its text. */
function plainKeys(text: string, file: string): ApiKey[] {
  const lines = text.split('\n').map((line) => line.trim());
  const wrong = lines.findIndex((line) => line !== '' && !line.startsWith('#') && !PRESENTABLE.test(line));
  if (wrong >= 0) {
    throw new OptionError(
      `--api-key-file: the key in line ${wrong + 1} must be ${PRESENTABLE_RULE}, without a comment`,
    );
  }
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (keys.length === 0) throw new OptionError(`--api-key-file must hold at least one key, got "${file}"`);
  return keys.map(openKey);
}

/** Errors name the place and never its value, because the value may be a key. */
function jsonKeys(text: string): ApiKey[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new OptionError('--api-key-file must hold valid JSON, or a first key that does not begin with "{" or "["');
  }
  if (!isValid(KeyFile, json)) {
    throw new OptionError(`--api-key-file: ${validationMessage(KeyFile, json) ?? 'is not valid'}`);
  }
  return json.keys.map((entry, index) => keyOf(entry, `--api-key-file: /keys/${index}`));
}

function keyOf(entry: KeyEntry, place: string): ApiKey {
  const { key, sha256, name, limits, default_budget: budget } = entry;
  if ((key === undefined) === (sha256 === undefined)) throw new OptionError(`${place} must have either key or sha256`);
  const times = [budget?.latency_budget_ms, budget?.slo_ttft_ms, budget?.slo_tpot_ms];
  if (budget !== undefined && times.every((ms) => ms === undefined)) {
    throw new OptionError(`${place}/default_budget must have latency_budget_ms, slo_ttft_ms or slo_tpot_ms`);
  }
  const [totalMs = null, ttftMs = null, tpotMs = null] = times;
  return {
    digest: key === undefined ? Buffer.from(sha256 ?? '', 'hex') : keyDigest(key),
    name: name ?? null,
    limits: {
      requestsPerMinute: limits?.requests_per_minute ?? null,
      tokensPerMinute: limits?.tokens_per_minute ?? null,
      requestsInFlight: limits?.requests_in_flight ?? null,
    },
    policy: {
      defaultBudget: budget === undefined ? null : { totalMs, ttftMs, tpotMs, onMiss: budget.budget_on_miss ?? null },
      onMiss: entry.budget_on_miss ?? null,
      net: entry.net ?? null,
      minExit: entry.min_exit_layer ?? null,
      maxExit: entry.max_exit_layer ?? null,
      maxTokens: limits?.max_tokens ?? null,
    },
  };
}

/** @throws OptionError if a key names a depth that is not an exit of the model, or has no exit left */
export function checkKeyExits(keys: readonly ApiKey[], exits: readonly number[]): void {
  for (const { policy } of keys) {
    const { minExit, maxExit } = policy;
    for (const [field, exit] of Object.entries({ min_exit_layer: minExit, max_exit_layer: maxExit })) {
      if (exit === null || exits.includes(exit)) continue;
      throw new OptionError(`--api-key-file: ${field} must be an exit of the model (${exits.join(', ')}), got ${exit}`);
    }
    if (minExit !== null && maxExit !== null && minExit > maxExit) {
      throw new OptionError(`--api-key-file: the shallowest exit of a key must be at most ${maxExit}, got ${minExit}`);
    }
  }
}

/**
 * Reads the API keys again on SIGHUP, without a restart. Running answers of a removed key continue.
 * @param check throws for keys that do not fit; after an error the present keys stay
 * @returns a function that stops listening
 */
export function reloadKeysOnSignal(
  context: { apiKeys: readonly ApiKey[]; readonly log: Logger; readonly options: KeyOptions },
  check: (keys: readonly ApiKey[]) => void,
): () => void {
  const reload = (): void => {
    try {
      const before = context.apiKeys;
      const keys = loadApiKeys(context.options);
      check(keys);
      context.apiKeys = keys;
      const changed = keys.filter((key) => !before.some((old) => isDeepStrictEqual(old, key))).length;
      context.log.info({ keys: keys.length, changed }, 'API keys read again');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      context.log.error({ reason }, 'the API keys are not changed, because they cannot be read');
    }
  };
  process.on('SIGHUP', reload);
  return () => {
    process.off('SIGHUP', reload);
  };
}
