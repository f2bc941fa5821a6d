import t from 'tap';
import { waitLimitOf } from '../../../src/gateway/api/generation/prompt.js';
import type { Budget } from '../../../src/protocol/index.js';

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
