/** Clients that disconnect in the middle of an answer. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { TestServer } from '../fakes/server.js';
import { until } from '../support/until.js';

/** Disconnects from a stream and from a whole answer: each cancels its sequences. @param count sequences of a request */
export async function checkDisconnects(
  t: Test,
  server: TestServer,
  path: string,
  body: object,
  count: number,
): Promise<void> {
  for (const stream of [true, false]) {
    const abort = new AbortController();
    const headers = { 'content-type': 'application/json' };
    const options = { method: 'POST', headers, body: JSON.stringify({ ...body, stream }), signal: abort.signal };
    fetch(server.url + path, options).catch(() => undefined);
    const before = server.engine.cancelled.length;
    await until('running', () => server.engine.live === count);
    await delay(30);
    abort.abort();
    await until('idle', () => server.engine.live === 0);
    t.equal(server.engine.cancelled.length, before + count, `stream ${stream}`);
  }
  await until('responses end', () => server.app.inFlightResponses.size === 0);
}
