/**
 * An unchanged answer of an upstream, whole or as a stream: only `model` and `id` differ.
 *
 * Must not know: landings.
 */
import { ApiError, ClientGone, toApiError } from '../api/errors.js';
import { type ChunkJson, isCounts, isPresent, textOf } from './chunk.js';
import { answerId, type ClientStream, type PlainAnswer, type UpstreamCall } from './call.js';
import { connectionError, type UpstreamResponse, wholeBody } from './connection.js';
import type { Exchange } from './exchange.js';
import { textReplacer, withField, without, withTexts } from './json-fields.js';
import { asksUsage } from './landed.js';
import { arrivals, eventOf, type Incoming } from './sse-events.js';
import type { UpstreamSettings } from './upstream-body.js';

/** The data of the last event of a stream. */
export const DONE = '[DONE]';

/** The names that an answer has here. */
export const namesHere = (call: UpstreamCall): Record<string, string> => ({ id: answerId(call), model: call.model });

/** The value of a JSON text; an empty object for another text. */
export function parsed(json: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}

/** @returns the whole answer; null for one that went out as a stream @throws ApiError upstream_failed, ClientGone */
export async function passThrough(
  call: UpstreamCall,
  { budget }: UpstreamSettings,
  exchange: Exchange,
): Promise<PlainAnswer | null> {
  const { arrivedAt, signal } = call.request;
  const response = await exchange.ask(budget === null ? null : arrivedAt + budget.totalMs, signal);
  if (!response.isStream) return plainAnswer(response, namesHere(call), exchange, signal);
  await passEvents(response, call, exchange);
  return null;
}

/** A response that is no stream. Errors keep their bytes. */
export async function plainAnswer(
  response: UpstreamResponse,
  names: Readonly<Record<string, string>>,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<PlainAnswer> {
  const { status, headers } = response;
  const text = await wholeBody(response, signal);
  if (status !== 200) return { status, headers, body: text };
  exchange.read(parsed(text));
  return { status, headers, body: withTexts(text, names) };
}

/** The events of a stream as its client gets them. */
class PassedEvents {
  isDone = false;
  isEnded = false;
  readonly #renamed: (json: string) => string;
  readonly #isCounted: boolean;
  /** The end of the text waits for counts that do not pass: other fields of theirs, such as a report, move to it. */
  #last: Extract<Incoming, { readonly type: 'event' }>[] = [];

  constructor(
    call: UpstreamCall,
    private readonly exchange: Exchange,
  ) {
    this.#renamed = textReplacer(namesHere(call));
    this.#isCounted = asksUsage(call);
  }

  /** @returns the events that go out */
  add(event: Incoming): Incoming[] {
    if (event.type === 'comment') return [event];
    this.isDone ||= event.data === DONE;
    const json = parsed(event.data) as ChunkJson;
    const isEnd = count(json, this.exchange);
    this.isEnded ||= isEnd;
    if (!this.#isCounted && isCounts(json)) {
      this.#last = this.#last.map((last) => ({ ...last, data: withFieldsOf(last.data, json) }));
      return [];
    }
    const out: Incoming[] = this.rest();
    const named = { ...event, data: this.#renamed(event.data) };
    (isEnd && !this.#isCounted ? this.#last : out).push(named);
    return out;
  }

  /** The events that wait. */
  rest(): Incoming[] {
    return this.#last.splice(0);
  }
}

/** A chunk with the fields of counts that it has not. */
function withFieldsOf(chunk: string, counts: ChunkJson): string {
  const more = without(counts, 'choices', 'usage', ...Object.keys(parsed(chunk)));
  return Object.entries(more).reduce((json, [name, value]) => withField(json, name, value), chunk);
}

async function passEvents({ body }: UpstreamResponse, call: UpstreamCall, exchange: Exchange): Promise<void> {
  const { signal } = call.request;
  const out = call.open();
  const passed = new PassedEvents(call, exchange);
  const pass = (events: readonly Incoming[]): void => {
    if (events.length > 0) out.pass(events);
  };
  try {
    for await (const events of arrivals(body)) {
      pass(events.flatMap((event) => passed.add(event)));
      await out.drained();
      signal.throwIfAborted();
    }
    if (!passed.isDone && !passed.isEnded)
      throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
    pass(passed.rest());
    out.end(passed.isDone ? null : DONE);
  } catch (thrown) {
    const error = connectionError(thrown, signal);
    if (error instanceof ClientGone) return;
    pass(passed.rest());
    exchange.broke('upstream_failed');
    broken(out, toApiError(error));
  } finally {
    body.destroy();
  }
}

/** Ends a stream with an error: the response itself, or its last event before the end of the stream. */
export function broken(out: ClientStream, error: ApiError): void {
  if (out.reject(error)) return;
  out.pass([eventOf(JSON.stringify(error.body()))]);
  out.end(DONE);
}

/** Counts a chunk. Errors and other texts pass unread. @returns whether it ends a choice */
function count(json: ChunkJson, exchange: Exchange): boolean {
  if (isPresent(json.error)) return false;
  try {
    const choices = json.choices ?? [];
    exchange.read(json);
    if (choices.some((choice) => textOf(choice) !== '')) exchange.text();
    return choices.some(({ finish_reason }) => typeof finish_reason === 'string');
  } catch {
    // The choices are none.
    return false;
  }
}
