/** The times of a step: by exit, and by its parts. */
import t from 'tap';
import { exitTimes } from '../../../src/engine/worker/step-runner.js';
import type { DepthShape, Work } from '../../../src/engine/scheduler/cost/model.js';
import type { StepWork } from '../../../src/protocol/index.js';
import { answersTo, greedy, makeCore, makeExecutor, PROMPTS } from '../helper.js';
import { tinyModel } from '../tiny-model.js';

const shape: DepthShape = {
  stages: ['a', 'b'],
  exits: [10, 30].map((layer, stage) => ({ layer, stage, block: null, accuracy: 1 })),
};
const prefill = { exit: 1, positions: 8, context: 0, chunk: 8 };
/** Predicted costs: 4 ms for decode, 6 ms for each prefill. */
const cost = ({ decode, prefill }: Work): number => (decode === null ? 0 : 4) + prefill.length * 6;

void t.test('exitTimes splits a step by predicted cost and depth, and sums to its duration', (t) => {
  const decode = { rows: [3, 1], context: 5 };
  t.same(exitTimes(shape, { decode, prefill: [] }, cost, 12), [6, 6], 'three rows of 10 layers weigh one of 30');
  t.same(exitTimes(shape, { decode: null, prefill: [prefill] }, cost, 12), [0, 12]);
  t.same(exitTimes(shape, { decode, prefill: [prefill] }, cost, 20), [4, 16]);
  t.same(exitTimes(shape, { decode: { rows: [0, 2], context: 5 }, prefill: [] }, cost, 7), [0, 7]);
  t.same(
    exitTimes(shape, { decode, prefill: [] }, () => 0, 7),
    [0, 0],
    'no predicted cost',
  );
  t.end();
});

void t.test('the parts of each step add up to its cycle, and each belongs to its work', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float') });
  const core = makeCore(executor);
  const [exit = 0] = executor.model.manifest.exits.map(({ layer }) => layer);
  const [prompt = []] = PROMPTS.map((ids) => ids.map((id) => id % executor.model.manifest.architecture.vocab));
  const steps: (StepWork & { readonly tokens: number })[] = [];
  const requests = ['a', 'b'].map((id) => greedy(id, prompt, exit, 6));
  answersTo(core, requests, ({ work, tokens }) => {
    if (work !== null) steps.push({ ...work, tokens: tokens.length });
  });
  t.ok(steps.length > 5);
  for (const { partMs, cycleMs, prefillTokens, tokens } of steps) {
    const sum = Object.values(partMs).reduce((a, b) => a + b, 0);
    t.ok(Math.abs(sum - cycleMs) < 1e-6, `${sum} of ${cycleMs} ms`);
    t.equal(partMs.prefill > 0, prefillTokens > 0, 'prefill');
    t.equal(partMs.decode > 0 && partMs.head > 0, tokens > 0, 'decode and head');
    t.ok(partMs.planning > 0 && partMs.memory > 0, 'every step plans, and moves the memory of its plan');
  }
  const [first, ...later] = steps;
  t.equal(first?.partMs.sampling, 0, 'no step came before the first one');
  t.ok(later.some(({ partMs }) => partMs.sampling > 0 && partMs.messages > 0));
});
