/**
 * An unchanged answer of an upstream, whole or as a stream: only `model` and `id` differ.
 *
 * Must not know: landings.
 */
import { ApiError, ClientGone, toApiError } from '../api/errors.js';
import { type ChunkJson, isPresent, textOf } from './chunk.js';
import { answerId, type ClientStream, type PlainAnswer, type UpstreamCall } from './call.js';
import { connectionError, type UpstreamResponse, wholeBody } from './connection.js';
import type { Exchange } from './exchange.js';
import { textReplacer, withTexts } from './json-fields.js';
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
  await passEvents(response, call.open(), namesHere(call), exchange, signal);
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

async function passEvents(
  { body }: UpstreamResponse,
  out: ClientStream,
  names: Readonly<Record<string, string>>,
  exchange: Exchange,
  signal: AbortSignal,
): Promise<void> {
  let isEnded = false;
  let isDone = false;
  const renamed = textReplacer(names);
  try {
    for await (const events of arrivals(body)) {
      const named: Incoming[] = [];
      for (const event of events) {
        const isComment = event.type === 'comment';
        named.push(isComment ? event : { ...event, data: renamed(event.data) });
        if (isComment) continue;
        if (event.data === DONE) isDone = true;
        else if (count(event.data, exchange)) isEnded = true;
      }
      if (named.length > 0) out.pass(named);
      await out.drained();
      signal.throwIfAborted();
    }
    if (!isDone && !isEnded) throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
    out.end(isDone ? null : DONE);
  } catch (thrown) {
    const error = connectionError(thrown, signal);
    if (error instanceof ClientGone) return;
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

/** Reads a chunk for the counts. Errors and other texts pass unread. @returns whether it ends a choice */
function count(data: string, exchange: Exchange): boolean {
  try {
    const json = JSON.parse(data) as ChunkJson;
    if (isPresent(json.error)) return false;
    exchange.read(json);
    let characters = 0;
    let isEnd = false;
    for (const choice of json.choices ?? []) {
      characters += textOf(choice).length;
      isEnd ||= typeof choice.finish_reason === 'string';
    }
    exchange.text(characters);
    return isEnd;
  } catch {
    return false;
  }
}
