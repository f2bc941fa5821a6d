/**
 * One chunk of a streamed answer, or a whole one, as pieces. Most chunks of a stream differ in one text alone, their
 * content or a thought: its place is learnt from two chunks, and found by a search in later ones.
 *
 * Must not know: time, connections.
 */
import { ApiError } from '../api/errors.js';
import type { CallPart } from '../api/generation/call-reader.js';
import { type Delta, emptyDelta, type FinishReason, type OtherFields, type Piece } from '../api/generation/choice.js';
import { bytesOf } from './held-bytes.js';
import { stringEnd, without, withTexts } from './json-fields.js';

export interface ChunkChoice {
  readonly index?: number;
  readonly text?: string | null;
  readonly delta?: Readonly<Record<string, unknown>> | null;
  /** Of a whole answer. */
  readonly message?: Readonly<Record<string, unknown>> | null;
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
  /** As it goes out. */
  readonly data: string;
  /** One of a known form has no choices here. */
  readonly json: ChunkJson;
  readonly pieces: readonly Piece[];
  /** Characters of texts, thoughts and calls. */
  readonly characters: number;
  /** Memory that it takes. */
  readonly bytes: number;
}

/** An error of the upstream that concerns the request: its policy, its form, or its rights. */
export class Refused extends ApiError {}

const REFUSALS = /filter|policy|safety|moderation|invalid_request|authentication|permission/i;
/** Statuses that say nothing of the request: a time-out, and too many requests. */
const PASSING = [408, 429];

function isRefusal({ code, status, type }: Readonly<Record<string, unknown>>): boolean {
  const numbers = [code, status].map(Number);
  const isOfClient = numbers.some((each) => each >= 400 && each < 500 && !PASSING.includes(each));
  return isOfClient || [code, type].some((text) => REFUSALS.test(String(text)));
}

/** Fields of a message that hold none of its tokens. */
const NO_TOKENS = ['role', 'id', 'type'];

/** Characters of the texts within a value: content, thoughts, refusals, names and arguments of calls. */
function charactersIn(value: unknown): number {
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 0;
  const parts = Object.entries(value).filter(([field]) => !NO_TOKENS.includes(field));
  return parts.reduce((sum, [, part]) => sum + charactersIn(part), 0);
}

/** Whether it has counts of tokens, and no part of an answer. */
export const isCounts = ({ choices, usage }: ChunkJson): boolean => !isPresent(choices) && isPresent(usage);

export const isPresent = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== '' && !(Array.isArray(value) && value.length === 0);

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

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

/** Most choices of an answer, and most calls of one. */
const MOST_PARTS = 10_000;

const wrong = (): ApiError => new ApiError('upstream_failed', 'The upstream sent an answer that is no chat.');

/** A list of parts, as a message may state it. @throws ApiError for a value that is none */
function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every(isObject)) throw wrong();
  return value as readonly Readonly<Record<string, unknown>>[];
}

const textIn = (value: unknown): string => (typeof value === 'string' ? value : '');

function placeIn(value: unknown, usual: number): number {
  const place = typeof value === 'number' ? value : usual;
  if (Number.isInteger(place) && place >= 0 && place < MOST_PARTS) return place;
  throw wrong();
}

/** The fields with a value that holds anything. */
const stated = (fields: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => isPresent(value)));

const FINISH: ReadonlyMap<string, FinishReason> = new Map([
  ['length', 'length'],
  ['tool_calls', 'tool_calls'],
  ['function_call', 'tool_calls'],
  ['content_filter', 'content_filter'],
]);

function callOf(
  { index, id, function: called, ...others }: Readonly<Record<string, unknown>>,
  place: number,
): CallPart {
  const { name, arguments: text } = (isObject(called) ? called : {}) as Readonly<Record<string, unknown>>;
  const begins = { ...(typeof id === 'string' && { id }), ...(typeof name === 'string' && { name }) };
  return { index: placeIn(index, place), ...begins, arguments: textIn(text), more: stated(without(others, 'type')) };
}

/** The pieces of a choice, whole or in a chunk. Fields that are unknown here go with the first of them. */
function piecesOf(choice: ChunkChoice): Piece[] {
  const { index: place, delta, message, text: own, finish_reason: finish, ...others } = choice;
  if (![delta, message].every((part) => part == null || isObject(part))) throw wrong();
  const { content, reasoning_content, tool_calls: calls, ...unknown } = delta ?? message ?? {};
  const index = placeIn(place, 0);
  const text = textIn(own ?? content);
  const thoughts = textIn(reasoning_content ?? unknown.reasoning);
  const rest = typeof content === 'string' ? unknown : { ...unknown, content };
  const more = { delta: stated(without(rest, 'role')), choice: stated(others) };
  const empty = emptyDelta(index);
  const parts = listOf(calls).map((call, at) => ({ ...empty, call: callOf(call, at) }));
  const isMore = Object.keys(more.delta).length > 0 && thoughts === '' && parts.length === 0;
  const pieces: Piece[] = [
    ...(thoughts === '' ? [] : [{ ...empty, thoughts }]),
    ...(text === '' && !isMore ? [] : [{ ...empty, text }]),
    ...parts,
    ...(typeof finish === 'string' ? [{ index, finishReason: FINISH.get(finish) ?? 'stop', isLast: false }] : []),
  ];
  const [first, ...behind] = pieces;
  return first === undefined ? [] : [{ ...first, more }, ...behind];
}

/** Whether a piece is a part of an answer that no sentence ends: a call, a refusal, or of a second choice. */
export const isOther = (piece: Piece): boolean =>
  piece.index > 0 ||
  ('text' in piece &&
    (piece.call !== null ||
      ['function_call', 'refusal', 'audio'].some((field) => isPresent(piece.more?.delta[field]))));

/**
 * @param hide takes the key of the upstream out of a text
 * @throws ApiError upstream_failed for data that is no chunk, or an error of the upstream
 */
export function readChunk(data: string, hide: (text: string) => string = (text) => text): Chunk {
  const bytes = bytesOf(data);
  const json: ChunkJson = readObject(data);
  const { error } = json;
  if (isPresent(error)) {
    const stated = (isObject(error) ? error : {}) as Readonly<Record<string, unknown>>;
    const { message } = stated;
    const said = typeof message === 'string' ? hide(message) : 'The upstream failed in the middle of its answer.';
    throw new (isRefusal(stated) ? Refused : ApiError)('upstream_failed', said);
  }
  const choices = listOf(json.choices);
  const pieces = choices.flatMap(piecesOf);
  return {
    data,
    json,
    bytes,
    characters: charactersIn(choices.map(({ text, delta, message }) => [text, delta, message])),
    pieces,
  };
}

/** The begin of a text that may be all that differs. */
const TEXT = /"(?:content|text|reasoning_content)"\s*:\s*"(?!")/;
/** Stands in place of the text. */
const MARK = 'text of a chunk';

/** The parts of a chunk around its text, as they come and as they go out. */
interface Shape {
  readonly head: string;
  readonly tail: string;
  readonly headHere: string;
  readonly tailHere: string;
  /** The chunk whose text is the mark, without its choices. */
  readonly chunk: Chunk;
  readonly piece: Delta;
  readonly more: OtherFields;
}

/** The text that JSON has between two quotes; null for one that is empty or wrong. */
function unquoted(raw: string): string | null {
  try {
    const text: unknown = JSON.parse(`"${raw}"`);
    return typeof text === 'string' && text !== '' ? text : null;
  } catch {
    return null;
  }
}

/** Null: chunks of this form have more than a text, or the text at another place. */
function shapeOf(head: string, tail: string, names: Readonly<Record<string, string>>): Shape | null {
  const [headHere = '', tailHere, ...more] = withTexts(head + MARK + tail, names).split(MARK);
  const chunk = readChunk(head + MARK + tail);
  const [piece, ...others] = chunk.pieces;
  if (piece === undefined || !('text' in piece) || tailHere === undefined || others.length + more.length > 0)
    return null;
  const { text, thoughts, more: fields, ...rest } = piece;
  const isOnly = text + thoughts === MARK && !JSON.stringify([rest, fields]).includes(MARK);
  if (!isOnly || fields === undefined || isPresent(chunk.json.usage)) return null;
  const json = without(chunk.json, 'choices');
  return { head, tail, headHere, tailHere, chunk: { ...chunk, json }, piece, more: fields };
}

/** The chunk of a known form: most are, so it is made by fields. Null: it has another form. */
function shaped({ head, tail, headHere, tailHere, chunk, piece, more }: Shape, data: string): Chunk | null {
  if (!data.startsWith(head) || !data.endsWith(tail)) return null;
  const raw = data.slice(head.length, data.length - tail.length);
  const found = unquoted(raw);
  if (found === null) return null;
  const { index, thoughts: hasThoughts } = piece;
  const [text, thoughts] = hasThoughts === '' ? [found, ''] : ['', found];
  return {
    json: chunk.json,
    data: headHere + raw + tailHere,
    pieces: [{ index, text, tokens: [], call: null, thoughts, more }],
    characters: chunk.characters - MARK.length + found.length,
    bytes: chunk.bytes - MARK.length + raw.length,
  };
}

export class ChunkReader {
  #shape: Shape | null = null;
  /** The parts around the text of the last chunk that was read whole. */
  #head = '';
  #tail = '';

  /**
   * @param names new texts of fields at the top
   * @param hide takes the key of the upstream out of a text
   */
  constructor(
    private readonly names: Readonly<Record<string, string>>,
    private readonly hide?: (text: string) => string,
  ) {}

  /** @throws ApiError as `readChunk` */
  read(data: string): Chunk {
    const known = this.#shape === null ? null : shaped(this.#shape, data);
    if (known !== null) return known;
    const chunk = readChunk(data, this.hide);
    this.#learn(data);
    return { ...chunk, data: withTexts(data, this.names) };
  }

  /** Learns the form of a chunk that was read whole: two chunks of one form make it known. */
  #learn(data: string): void {
    const found = TEXT.exec(data);
    if (found === null) return;
    const start = found.index + found[0].length;
    const head = data.slice(0, start);
    const tail = data.slice(stringEnd(data, start - 1) - 1);
    if (head === this.#head && tail === this.#tail) this.#shape = shapeOf(head, tail, this.names);
    this.#head = head;
    this.#tail = tail;
  }
}
