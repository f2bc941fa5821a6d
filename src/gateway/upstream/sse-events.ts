/** The events of a `text/event-stream` body, and their text. Must not know: the content of events. */
import type { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { monotonicMs } from '../../util/clock.js';
import type { HeldBytes } from './held-bytes.js';

/** Memory of a byte on its way: an empty line of data has six, and takes a part of a string. */
const WAITING_BYTES = 6;
/** From the last event of a stream to the end of its body. A connection beyond it serves no other request. */
const BODY_END_MS = 1000;

/** The data of the last event of a stream. */
export const DONE = '[DONE]';

export type Incoming =
  (EventSourceMessage & { readonly type: 'event' }) | { readonly type: 'comment'; readonly text: string };

export type Body = AsyncIterable<Uint8Array> & Pick<Readable, 'destroy' | 'iterator' | 'once' | 'resume'>;

/** Time of a turn of the event loop that the events of all streams take, ms. Timers and requests wait for so long. */
const TURN_MS = 10;
/** Most bytes of a group: a read of 64 kB takes longer than the turn. */
const PART_BYTES = 4096;
/** Null: no stream has had a part of this turn. */
let turnEndsAt: number | null = null;

/** Waits for a turn with time left: a flood of bytes would hold the loop, since each read brings the next one. */
async function inTurn(): Promise<void> {
  for (;;) {
    const now = monotonicMs();
    if (turnEndsAt === null) {
      turnEndsAt = now + TURN_MS;
      setImmediate(() => (turnEndsAt = null));
    }
    if (now < turnEndsAt) return;
    await nextTurn();
  }
}

/** Leaves a body whose events are over: it may end in time, which keeps its connection open for other requests. */
function leave(body: Body): void {
  const timer = setTimeout(() => body.destroy(), BODY_END_MS);
  body.once('close', () => {
    clearTimeout(timer);
  });
  body.resume();
}

/**
 * The events up to the last one, in the groups in which they arrive.
 * @param held an event that has begun
 * @throws ApiError for an event that is too long
 */
export async function* eventsIn(body: Body, held: HeldBytes): AsyncGenerator<Incoming[], void, undefined> {
  const ready: Incoming[] = [];
  let isTold = false as boolean;
  const parser = createParser({
    onEvent: (event) => {
      if (!isTold) ready.push({ type: 'event', ...event });
      isTold ||= event.data === DONE;
    },
    onComment: (text) => isTold || ready.push({ type: 'comment', text }),
  });
  const decoder = new TextDecoder();
  let waiting = 0;
  try {
    for await (const bytes of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
      for (let at = 0; at < bytes.length; at += PART_BYTES) {
        await inTurn();
        const part = bytes.subarray(at, at + PART_BYTES);
        parser.feed(decoder.decode(part, { stream: true }));
        // A comment may stand within an event.
        const isWhole = ready.some(({ type }) => type === 'event');
        if (isWhole) held.free(waiting);
        else held.add(WAITING_BYTES * part.length);
        waiting = isWhole ? 0 : waiting + WAITING_BYTES * part.length;
        if (ready.length > 0) yield ready.splice(0);
        if (isTold) return;
      }
    }
    // Some servers omit the empty line after the last event.
    parser.feed(`${decoder.decode()}\n\n`);
    yield ready;
  } finally {
    if (isTold) leave(body);
    else body.destroy();
  }
}

/** The text of an event or a comment on the wire. */
export function frameOf(event: Incoming): string {
  if (event.type === 'comment') return `: ${event.text}\n\n`;
  const { event: name, id, data } = event;
  const head = `${name === undefined ? '' : `event: ${name}\n`}${id === undefined ? '' : `id: ${id}\n`}`;
  return `${head}data: ${data.replaceAll('\n', '\ndata: ')}\n\n`;
}
