/** One chunk of a streamed answer, as far as landings read it. Must not know: time, connections. */
import { ApiError } from '../api/errors.js';
import { bytesOf } from './held-bytes.js';

export interface ChunkChoice {
  readonly index?: number;
  readonly text?: string | null;
  readonly delta?: Readonly<Record<string, unknown>> | null;
  readonly logprobs?: unknown;
  readonly finish_reason?: string | null;
}

/** The JSON of a chunk. Servers add fields of their own. */
export interface ChunkJson {
  readonly error?: unknown;
  readonly choices?: readonly ChunkChoice[] | null;
  readonly usage?: { readonly prompt_tokens?: number; readonly completion_tokens?: number } | null;
  readonly [field: string]: unknown;
}

export interface Chunk {
  /** As it goes to the client. */
  readonly data: string;
  readonly json: ChunkJson;
  /** Content of the answer: thoughts, roles and calls are none. */
  readonly text: string;
  /** Indices of the choices that end with it. */
  readonly ended: readonly number[];
  /** Whether it has no part of an answer: a role alone, or nothing. */
  readonly isEmpty: boolean;
  /** Whether it has a part of an answer that no sentence ends: a call, a refusal, or a second choice. */
  readonly isOther: boolean;
  /** Memory that it takes. */
  readonly bytes: number;
}

/** An error of the upstream that concerns the request: its policy, its form, or its rights. */
export class Refused extends ApiError {}

const REFUSALS = /filter|policy|safety|moderation|invalid_request|authentication|permission/i;
/** Statuses that say nothing of the request: a time-out, and too many requests. */
const PASSING = [408, 429];

function isRefusal(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { code, status, type } = error as Readonly<Record<string, unknown>>;
  const isOfClient = (value: unknown): boolean => {
    const number = Number(value);
    return number >= 400 && number < 500 && !PASSING.includes(number);
  };
  return isOfClient(code) || isOfClient(status) || [code, type].some((text) => REFUSALS.test(String(text)));
}

/** The content of a choice. */
export const textOf = ({ text, delta }: ChunkChoice): string => {
  const content = text ?? delta?.content;
  return typeof content === 'string' ? content : '';
};

/** Fields of a message that hold none of its tokens. */
const NO_TOKENS = ['role', 'id', 'type'];

/** Characters of the texts within a value, of a message's depth. */
function charactersIn(value: unknown, depth = 5): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null || depth === 0) return 0;
  const parts = Object.entries(value).filter(([field]) => !NO_TOKENS.includes(field));
  return parts.reduce((sum, [, part]) => sum + charactersIn(part, depth - 1), 0);
}

/** Characters of choices, whole or in a chunk: content, thoughts, refusals, names and arguments of calls. */
export function charactersOf(choices: unknown): number {
  const parts = (Array.isArray(choices) ? choices : []).map((choice: unknown) => {
    const { text, delta, message } = (choice ?? {}) as Readonly<Record<string, unknown>>;
    return charactersIn([text, delta, message]);
  });
  return parts.reduce((sum, part) => sum + part, 0);
}

/** Whether it has counts of tokens, and no part of an answer. */
export const isCounts = ({ choices, usage }: ChunkJson): boolean => !isPresent(choices) && isPresent(usage);

export const isPresent = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0);

const hasPart = ({ text, delta, finish_reason }: ChunkChoice): boolean =>
  isPresent(text) ||
  isPresent(finish_reason) ||
  Object.entries(delta ?? {}).some(([field, value]) => field !== 'role' && isPresent(value));

const isOther = ({ index = 0, delta }: ChunkChoice): boolean =>
  index > 0 || ['tool_calls', 'function_call', 'refusal', 'audio'].some((field) => isPresent(delta?.[field]));

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Whether a value can be the choices of a chunk. */
const areChoices = (value: unknown): boolean =>
  value == null || (Array.isArray(value) && value.every((each: ChunkChoice | null) => isObject(each) && isDelta(each)));
const isDelta = ({ delta }: ChunkChoice): boolean => delta == null || isObject(delta);

/** @throws ApiError upstream_failed for a text that is no JSON object */
export function readObject(text: string): Readonly<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // An object fails as well.
  }
  if (isObject(json)) return json as Readonly<Record<string, unknown>>;
  throw new ApiError('upstream_failed', 'The upstream sent an answer, or a part of one, that is no JSON object.');
}

/** @throws ApiError upstream_failed for data that is no chunk, or an error of the upstream */
export function readChunk(data: string): Chunk {
  const bytes = bytesOf(data);
  const chunk: ChunkJson = readObject(data);
  if (!areChoices(chunk.choices)) throw new ApiError('upstream_failed', 'The upstream sent no list of choices.');
  if (isPresent(chunk.error)) {
    const Kind = isRefusal(chunk.error) ? Refused : ApiError;
    throw new Kind('upstream_failed', 'The upstream failed in the middle of its answer.');
  }
  const choices = chunk.choices ?? [];
  return {
    data,
    bytes,
    json: chunk,
    text: choices.map(textOf).join(''),
    ended: choices.filter(({ finish_reason }) => typeof finish_reason === 'string').map(({ index = 0 }) => index),
    isEmpty: !choices.some(hasPart),
    isOther: choices.some(isOther),
  };
}

/** The choices of an answer that have ended. */
export class EndedChoices {
  readonly #ended = new Set<number>();

  /** @param choices of the answer */
  constructor(private readonly choices: number) {}

  add({ ended }: Chunk): void {
    for (const index of ended) if (!this.areAll) this.#ended.add(index);
  }

  get areAll(): boolean {
    return this.#ended.size >= this.choices;
  }

  get areAny(): boolean {
    return this.#ended.size > 0;
  }
}

/** The chunk with a part of its text. It must have one choice. The last part has its memory. */
export function partOf(chunk: Chunk, start: number, end: number): Chunk {
  const text = chunk.text.slice(start, end);
  const choices = (chunk.json.choices ?? []).map((choice) =>
    choice.text === undefined || choice.text === null
      ? { ...choice, delta: { ...choice.delta, content: text } }
      : { ...choice, text },
  );
  const json = { ...chunk.json, choices };
  return { ...chunk, data: JSON.stringify(json), json, text, bytes: end < chunk.text.length ? 0 : chunk.bytes };
}
