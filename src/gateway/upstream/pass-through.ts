/**
 * An unchanged answer of an upstream, whole or as a stream: only `model` and `id` differ.
 *
 * Must not know: landings.
 */
import { ApiError, ClientGone, toApiError } from '../api/errors.js';
import { isCounts, readChunk, readObject } from './chunk.js';
import { ChunkReader, type NamedChunk } from './chunk-reader.js';
import { answerId, asksUsage, type PlainAnswer, type UpstreamCall } from './call.js';
import { connectionError, eventsIn, type UpstreamResponse, wholeBody } from './connection.js';
import type { Exchange } from './exchange.js';
import { bytesOf } from './held-bytes.js';
import { withTexts } from './json-fields.js';
import { DONE, type Incoming } from './sse-events.js';

/** The names that an answer has here. */
const namesHere = (call: UpstreamCall): Record<string, string> => ({ id: answerId(call), model: call.model });

/** @returns the whole answer; null for one that went out as a stream @throws ApiError upstream_failed, ClientGone */
export async function passThrough(call: UpstreamCall, exchange: Exchange): Promise<PlainAnswer | null> {
  const { signal } = call.request;
  const response = await exchange.ask(signal);
  if (!response.isStream) return plainAnswer(response, namesHere(call), exchange, signal);
  await passEvents(response, call, exchange);
  return null;
}

/** A response that is no stream. Errors keep their bytes. @throws ApiError for a good status without an answer */
export async function plainAnswer(
  response: UpstreamResponse,
  names: Readonly<Record<string, string>>,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<PlainAnswer> {
  const { status, headers } = response;
  const text = await wholeBody(response, signal, exchange.held);
  exchange.held.add(bytesOf(text));
  if (status >= 300) return { status, headers, body: exchange.withoutKey(text) };
  try {
    exchange.count({ ...readChunk(text), text: '' });
  } catch {
    // Another form passes.
    readObject(text);
  }
  return { status, headers, body: withTexts(text, names) };
}

/** The events of a stream as its client gets them. */
class PassedEvents {
  isDone = false;
  isEnded = false;
  readonly #names: Readonly<Record<string, string>>;
  readonly #chunks: ChunkReader;
  readonly #isCounted: boolean;
  /** The end of the text waits for counts that do not pass. The report of another Sortie moves from them to it. */
  #last: Extract<Incoming, { readonly type: 'event' }>[] = [];
  #report: unknown = undefined;

  constructor(
    call: UpstreamCall,
    private readonly exchange: Exchange,
  ) {
    this.#names = namesHere(call);
    this.#chunks = new ChunkReader(this.#names);
    this.#isCounted = asksUsage(call);
  }

  /** @returns the events that go out */
  add(event: Incoming): Incoming[] {
    if (event.type === 'comment') return [{ ...event, text: this.exchange.withoutKey(event.text) }];
    this.isDone = event.data === DONE;
    const chunk = this.#read(event.data);
    const isEnd = chunk?.pieces.some((piece) => 'finishReason' in piece) === true;
    this.isEnded ||= isEnd;
    if (chunk !== null && !this.#isCounted && isCounts(chunk.json)) {
      this.#report = chunk.json.sortie;
      return [];
    }
    const out: Incoming[] = this.rest();
    const named = chunk?.data ?? withTexts(event.data, this.#names);
    // An error may repeat the headers of its request.
    const data = chunk === null || chunk.pieces.length === 0 ? this.exchange.withoutKey(named) : named;
    (isEnd && !this.#isCounted ? this.#last : out).push({ ...event, data });
    return out;
  }

  /** Counts a chunk. Null: an error, or another text, which passes. */
  #read(data: string): NamedChunk | null {
    if (this.isDone) return null;
    try {
      const chunk = this.#chunks.read(data);
      this.exchange.count(chunk);
      return chunk;
    } catch {
      return null;
    }
  }

  /** The events that wait. */
  rest(): Incoming[] {
    const last = this.#last.splice(0);
    if (this.#report === undefined) return last;
    const told = (data: string): string => JSON.stringify({ ...readObject(data), sortie: this.#report });
    return last.map((event) => ({ ...event, data: told(event.data) }));
  }
}

async function passEvents(response: UpstreamResponse, call: UpstreamCall, exchange: Exchange): Promise<void> {
  const { signal } = call.request;
  const out = call.open();
  const passed = new PassedEvents(call, exchange);
  try {
    for await (const events of eventsIn(response, exchange.held)) {
      out.pass(events.flatMap((event) => passed.add(event)));
      await out.drained();
      signal.throwIfAborted();
    }
    if (!passed.isDone && !passed.isEnded)
      throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
    out.pass(passed.rest());
    out.end(passed.isDone ? null : DONE);
  } catch (thrown) {
    const fault = connectionError(thrown, signal);
    if (fault instanceof ClientGone) return;
    out.pass(passed.rest());
    exchange.broke('upstream_failed');
    const error = toApiError(exchange.failed(fault));
    if (out.reject(error)) return;
    out.send(error.body());
    out.end(DONE);
  }
}
