/** The parts of a step's time in its report. */
import t from 'tap';
import type { StepWork } from '../../../src/protocol/index.js';
import { drain, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

void t.test('the parts of each step add up to its cycle, and each belongs to its work', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
  const core = makeCore(executor);
  const [exit = 0] = executor.model.manifest.exits.map(({ layer }) => layer);
  const [prompt = []] = PROMPTS.map((ids) => ids.map((id) => id % executor.model.manifest.architecture.vocab));
  for (const id of ['a', 'b']) core.submit(greedy(id, prompt, exit, 6));
  const steps: (StepWork & { readonly tokens: number })[] = [];
  drain(core, ({ work, tokens }) => {
    if (work !== null) steps.push({ ...work, tokens: tokens.length });
  });
  t.ok(steps.length > 5);
  for (const { partMs, cycleMs, prefillTokens, tokens } of steps) {
    const sum = Object.values(partMs).reduce((a, b) => a + b, 0);
    t.ok(Math.abs(sum - cycleMs) < 1e-6, `${sum} of ${cycleMs} ms`);
    t.equal(partMs.prefill > 0, prefillTokens > 0, 'prefill');
    t.equal(partMs.decode > 0 && partMs.head > 0, tokens > 0, 'decode and head');
  }
  const [first, ...later] = steps;
  t.equal(first?.partMs.sampling, 0, 'no step came before the first one');
  t.ok(later.some(({ partMs }) => partMs.sampling > 0 && partMs.messages > 0));
});
