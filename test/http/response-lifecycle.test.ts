import type { FastifyReply } from 'fastify';
import t from 'tap';
import { ClientGone } from '../../src/gateway/api/errors.js';
import { clientAbortSignal, onClosed } from '../../src/gateway/http/response-lifecycle.js';

void t.test('a listener of a finished response is called immediately', (t) => {
  for (const [response, connection] of [
    [true, false],
    [false, true],
  ] as const) {
    const raw = { destroyed: response };
    const reply = { raw, request: { raw: { socket: { destroyed: connection } } } } as unknown as FastifyReply;
    let heard = 0;
    onClosed(reply, () => heard++);
    t.equal(heard, 1);
    t.type(clientAbortSignal(reply).reason, ClientGone, 'its request is aborted');
  }
  t.end();
});
