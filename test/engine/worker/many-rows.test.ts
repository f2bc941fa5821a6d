/** 256 sequences run together, as on a GPU: router and scheduler keep all of them in one batch, with their own answers. */
import t from 'tap';
import { drain, greedy, makeCore, makeExecutor } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const ROWS = 256;

void t.test('256 sequences at two depths decode in one step, half of them with a budget', async (t) => {
  const modelDir = await tinyModel(t, 'float');
  const options = { modelDir, maxRunning: ROWS, kvMemoryBytes: 2 ** 28, prefixReuse: false };
  const executor = await makeExecutor(t, options);
  const exits = executor.model.manifest.exits.map(({ layer }) => layer);
  // The clock moves only where the test says so: budgets don't depend on the machine's load.
  const core = makeCore(executor, options, () => 0);
  const requests = Array.from({ length: ROWS }, (_, i) => {
    const exit = exits[i % exits.length] ?? 0;
    // A step prefills one prompt. A prompt of one token needs no prefill.
    const prompt = i % 4 < 2 ? [3 + (i % 7)] : [3 + (i % 7), 10 + (i % 11), 30];
    const request = greedy(`r${i}`, prompt, exit, 200, { arrivedAt: 0 });
    const budget = { totalMs: 600_000, ttftMs: null, tpotMs: null, onMiss: 'continue' } as const;
    return i % 2 === 0 ? request : { ...request, depth: { ...request.depth, budget } };
  });
  for (const request of requests) core.submit(request);
  const batches: number[] = [];
  const answers = drain(core, (step) => {
    batches.push(step.tokens.length);
  });
  t.ok(batches.filter((rows) => rows === ROWS).length > 10, `largest batch: ${Math.max(...batches)}`);
  t.ok(
    [...answers.values()].every(({ tokens, ended }) => tokens.length === 200 && ended?.preemptions === 0),
    'every answer is complete',
  );
  // Equal prompts at one exit give equal answers, and so does a request alone.
  for (const i of [0, 77, 154, 255]) {
    const [alone] = [requests[i]].flatMap((request) => (request ? [{ ...request, id: 'alone' }] : []));
    if (alone === undefined) throw new Error(`no request ${i}`);
    const single = makeCore(executor, options, () => 0);
    single.submit(alone);
    t.strictSame(answers.get(`r${i}`)?.tokens, drain(single).get('alone')?.tokens, `request ${i}`);
  }
});
