/** 256 sequences run together, as on a GPU: router and scheduler keep all of them in one batch, with their own answers. */
import t from 'tap';
import { answersTo, answerTo, greedy, makeCore, makeExecutor, within } from '../helper.js';
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
    const depth = i % 2 === 0 ? {} : within(exit, 600_000, 'continue');
    return greedy(`r${i}`, prompt, exit, 200, { arrivedAt: 0, ...depth });
  });
  const batches: number[] = [];
  const answers = answersTo(core, requests, ({ tokens }) => batches.push(tokens.length));
  t.ok(batches.filter((rows) => rows === ROWS).length > 10, `largest batch: ${Math.max(...batches)}`);
  t.ok(
    [...answers.values()].every(({ tokens, ended }) => tokens.length === 200 && ended?.preemptions === 0),
    'every answer is complete',
  );
  // Equal prompts at one exit give equal answers, and so does a request alone.
  for (const request of [0, 77, 154, 255].flatMap((i) => requests.slice(i, i + 1))) {
    const { tokens } = answerTo(
      makeCore(executor, options, () => 0),
      request,
    );
    t.strictSame(answers.get(request.id)?.tokens, tokens, request.id);
  }
});
