/**
 * An unchanged answer of an upstream, whole or as a stream: only `model` and `id` differ.
 *
 * Must not know: landings.
 */
import { ClientGone, toApiError } from '../api/errors.js';
import { isCounts, readChunk, readObject } from './chunk.js';
import { answerId, asksUsage, type PlainAnswer, type UpstreamCall } from './call.js';
import { connectionError, type UpstreamResponse, wholeBody } from './connection.js';
import type { ChunkEvent, Exchange } from './exchange.js';
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
    exchange.count(readChunk(text), false);
  } catch {
    // Another form passes.
    readObject(text);
  }
  return { status, headers, body: withTexts(text, names) };
}

/** The end of a text waits for counts that do not pass. The report of another Sortie moves from them to it. */
class HiddenCounts {
  #last: Extract<Incoming, { readonly type: 'event' }>[] = [];
  #report: unknown = undefined;

  /** @returns the events that go out */
  add({ event, chunk }: ChunkEvent): Incoming[] {
    if (event.type === 'comment') return [event];
    if (chunk !== null && isCounts(chunk.json)) {
      this.#report = chunk.json.sortie;
      return [];
    }
    const out: Incoming[] = this.rest();
    const isEnd = chunk?.pieces.some((piece) => 'finishReason' in piece) === true;
    (isEnd ? this.#last : out).push(event);
    return out;
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
  const names = namesHere(call);
  const out = call.open();
  const hidden = asksUsage(call) ? null : new HiddenCounts();
  let isDone = false as boolean;
  // An error and a comment may repeat the headers of their request.
  const named = ({ event, chunk }: ChunkEvent): Incoming => {
    if (event.type === 'comment') return { ...event, text: exchange.withoutKey(event.text) };
    isDone = event.data === DONE;
    const data = chunk?.data ?? withTexts(event.data, names);
    return { ...event, data: chunk === null || chunk.pieces.length === 0 ? exchange.withoutKey(data) : data };
  };
  try {
    for await (const events of exchange.events(response, names, true)) {
      const passed = events.map((each) => ({ ...each, event: named(each) }));
      out.pass(passed.flatMap((each) => hidden?.add(each) ?? [each.event]));
      await out.drained();
      signal.throwIfAborted();
    }
    out.pass(hidden?.rest() ?? []);
    out.end(isDone ? null : DONE);
  } catch (thrown) {
    const fault = connectionError(thrown, signal);
    if (fault instanceof ClientGone) return;
    out.pass(hidden?.rest() ?? []);
    exchange.broke('upstream_failed');
    const error = toApiError(exchange.failed(fault));
    if (out.reject(error)) return;
    out.send(error.body());
    out.end(DONE);
  }
}
