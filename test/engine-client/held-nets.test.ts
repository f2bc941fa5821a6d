/** The parts of armed nets on their way to the engine. */
import t from 'tap';
import { HeldNets } from '../../src/gateway/engine-client/held-nets.js';
import type { ToEngine } from '../../src/protocol/index.js';

void t.test('the engine learns each part once, and a new engine those that are still held', async (t) => {
  const sent: ToEngine[] = [];
  const nets = new HeldNets((message) => sent.push(message));
  const part = { dueAt: 1000, sentenceMs: 100, prefillMs: 10, fullMs: 20, besideMs: 1 };
  const giveBack = nets.hold(part);
  nets.hold({ ...part, dueAt: 2000 });
  giveBack();
  giveBack();
  t.match(sent.splice(0), [
    { type: 'net', id: 1, part },
    { type: 'net', id: 2 },
    { type: 'net', id: 1, part: null },
  ]);
  nets.tell();
  t.match(sent, [{ type: 'net', id: 2, part: { dueAt: 2000 } }]);
  t.equal(sent.length, 1);
});
