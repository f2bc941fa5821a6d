import t from 'tap';
import { waitLimitOf, encodeWithin } from '../../../src/gateway/api/generation/prompt.js';
import type { Budget } from '../../../src/protocol/index.js';
import { completions } from '../../../src/gateway/api/endpoints/completions.js';
import { openPolicy } from '../../../src/gateway/api/context.js';
import { serveStream, serveWhole } from '../../../src/gateway/api/generation/serve.js';
import { ClientGone } from '../../../src/gateway/api/errors.js';
import type { EncodingThread } from '../../../src/gateway/text/encoding/encoding-thread.js';
import { build } from '../../fakes/server.js';

void t.test('the wait for a prompt ends with the total budget, if the answer ends then as well', (t) => {
  const signal = new AbortController().signal;
  const deadlineOf = (budget: Budget | null) => waitLimitOf({ signal, arrivedAt: 1000 }, budget).deadlineAt;
  const total = { totalMs: 250, ttftMs: 20, tpotMs: null };
  const first = { totalMs: null, ttftMs: 20, tpotMs: 5 };
  t.equal(deadlineOf(null), null);
  for (const onMiss of ['land', 'reject', 'truncate'] as const) {
    t.equal(deadlineOf({ ...total, onMiss }), 1250, onMiss);
    t.equal(deadlineOf({ ...first, onMiss }), null, `${onMiss}: a late first token does not end the wait`);
  }
  t.equal(deadlineOf({ ...total, onMiss: 'continue' }), null);
  t.end();
});

// Clients that disconnect before any work for their request.

const signal = AbortSignal.abort(new ClientGone());

void t.test('nothing is generated for a client that disconnected while its request was read', async (t) => {
  const { engine, context } = await build(t);
  const settled: number[] = [];
  const request = {
    ...{
      id: 'x',
      arrivedAt: 0,
      waitedMs: 0,
      headers: {},
      body: { prompt: 'Hello' },
      signal,
      trace: null,
      warn: () => undefined,
      addLogFields: () => undefined,
      addCancelFields: () => undefined,
      answered: () => undefined,
    },
    caller: {
      ...{ keyId: null, tenant: 'a', policy: openPolicy },
      reserve: () => (tokens: number) => void settled.push(tokens),
    },
  };
  await t.rejects(serveWhole(context.api, request, completions), ClientGone);
  const none = { send: () => undefined, drained: () => null, reject: () => true, end: () => undefined };
  await serveStream(context.api, request, completions, () => none);
  t.same(engine.requests, []);
  t.same(settled, [0, 0], 'nothing is taken from its allowance');
});

void t.test('nothing is tokenized for a client that has disconnected', async (t) => {
  const encode: EncodingThread['encode'] = (_text, _addSpecial, signal) => {
    signal?.throwIfAborted();
    return Promise.resolve(Uint32Array.of(1));
  };
  const encoding = { encode } as unknown as EncodingThread;
  await t.rejects(encodeWithin({ encoding }, { signal, deadlineAt: null })('text', false), ClientGone);
});
