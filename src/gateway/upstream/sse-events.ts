/** The events of a `text/event-stream` body, and their text. Must not know: the content of events. */
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { ApiError } from '../api/errors.js';

/** Longest event, in characters. An event may hold an image. */
const MOST_EVENT = 16 * 1024 * 1024;

export type Incoming =
  (EventSourceMessage & { readonly type: 'event' }) | { readonly type: 'comment'; readonly text: string };

/**
 * The events, in the groups in which they arrive.
 * @throws ApiError upstream_failed for an event that is too long
 */
export async function* arrivals(body: AsyncIterable<Uint8Array>): AsyncGenerator<Incoming[], void, undefined> {
  const ready: Incoming[] = [];
  const fault = { isTooLong: false };
  const parser = createParser({
    maxBufferSize: MOST_EVENT,
    onEvent: (event) => ready.push({ type: 'event', ...event }),
    onComment: (text) => ready.push({ type: 'comment', text }),
    onError: ({ type }) => (fault.isTooLong ||= type === 'max-buffer-size-exceeded'),
  });
  const decoder = new TextDecoder();
  for await (const bytes of body) {
    parser.feed(decoder.decode(bytes, { stream: true }));
    if (fault.isTooLong) throw new ApiError('upstream_failed', 'An event of the upstream is too long.');
    if (ready.length > 0) yield ready.splice(0);
  }
  // Some servers omit the empty line after the last event.
  parser.feed(`${decoder.decode()}\n\n`);
  yield ready;
}

/** As `arrivals`, one by one. */
export async function* incoming(body: AsyncIterable<Uint8Array>): AsyncGenerator<Incoming, void, undefined> {
  for await (const events of arrivals(body)) yield* events;
}

/** An event without a name. */
export const eventOf = (data: string): Incoming => ({ type: 'event', event: undefined, id: undefined, data });

/** The text of an event or a comment on the wire. */
export function frameOf(event: Incoming): string {
  if (event.type === 'comment') return `: ${event.text}\n\n`;
  const { event: name, id, data } = event;
  const head = `${name === undefined ? '' : `event: ${name}\n`}${id === undefined ? '' : `id: ${id}\n`}`;
  return `${head}data: ${data.replaceAll('\n', '\ndata: ')}\n\n`;
}
