/**
 * Replays a run of the engine: the requests and what each step did give the recorded plans, without a model. A change of
 * plans on purpose writes the record again: SORTIE_TEST_RECORD=1 node dist/test/scheduler/replay.test.js
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { depthShape } from '../../src/engine/depth-shape.js';
import { EngineCore } from '../../src/engine/worker/core.js';
import type { SequenceRequest } from '../../src/protocol/index.js';
import { SlotTable } from '../../src/engine/scheduler/kv/slot-table.js';
import { unitsOf } from '../../src/engine/scheduler/kv/units.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { StepPlan, StepResult } from '../../src/engine/scheduler/step-plan.js';
import { makeExecutor, slotParts } from '../engine/helper.js';
import { greedy } from '../engine/helper.js';
import { tinyModel } from '../engine/tiny-model.js';

const file = join(fileURLToPath(new URL('../../../', import.meta.url)), 'test/scheduler/recorded-plans.json');

interface RecordedStep {
  /** Requests that arrive, and ids that are cancelled, before the step. */
  readonly add: readonly SequenceRequest[];
  readonly cancel: readonly string[];
  readonly plan: StepPlan;
  readonly result: StepResult;
}

const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float'), maxRunning: 2 });
const { model } = slotParts(executor);
const shape = depthShape(model.manifest);
const [shallow = 0, deepest = 0] = [shape.exits[0]?.layer, shape.exits.at(-1)?.layer];
const points = (ms: number) => [
  { rows: 1, context: 0, ms },
  { rows: 100, context: 0, ms: 60 * ms },
];
const costs = {
  units: [...shape.stages, ...shape.exits.flatMap(({ block }) => block ?? [])].map((unit) => {
    return { unit, kernel: executor.kernels[0] ?? '', decode: points(2), prefill: points(0.2) };
  }),
};
const options = {
  ...{ maxRunning: 2, maxQueue: 9, kvBytes: 160 * model.bytesPerPosition, prefixReuse: true, prefillChunk: 16 },
  policy: defaultPolicy,
};

/** Nine requests: a shared prefix, two depths, drafts, promises, a rejection, a deadline, a cancel and a dry run. */
function arrivals(): Map<number, SequenceRequest[]> {
  const system = Array.from({ length: 30 }, (_, i) => 3 + i);
  const total = (totalMs: number, onMiss: 'land' | 'reject' | 'truncate') => {
    return { minExit: shallow, maxExit: deepest, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } };
  };
  const ask = (
    id: string,
    at: number,
    prompt: readonly number[],
    more: Partial<SequenceRequest> = {},
  ): SequenceRequest => greedy(id, prompt, deepest, 20, { arrivedAt: at, ...more });
  return new Map([
    [0, [ask('first', 0, [...system, 50, 51]), ask('follows', 0, [...system, 60])]],
    [2, [ask('shallow', 20, system.slice(5), { depth: { minExit: shallow, maxExit: shallow, budget: null } })]],
    [3, [ask('promised', 30, [7, 8, 9], { depth: total(900, 'reject'), tenant: 'b' })]],
    [4, [ask('hopeless', 40, [7, 8, 9], { depth: total(3, 'reject'), tenant: 'b' })]],
    [6, [ask('cut', 60, [9, 9, 8], { depth: total(150, 'truncate'), maxTokens: 90 })]],
    [8, [ask('cancelled', 80, [5, 6, 7], { maxTokens: 60 })]],
    [60, [ask('drafts', 900, [3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 5, 6], { maxTokens: 24 })]],
    [9, [ask('asks', 90, [5, 6, 7], { depth: total(2000, 'land'), stopTokens: [1], isDryRun: true })]],
  ]);
}

/** Runs the real model, on a clock that counts the predicted time of each step. */
function recorded(): RecordedStep[] {
  const steps: RecordedStep[] = [];
  let now = 0;
  let plan: StepPlan | null = null;
  const core = new EngineCore(executor, costs, {
    ...options,
    speculate: 'all',
    clock: () => now,
    onPlan: (each) => {
      plan = each;
      now += Math.max(1, Math.round(each.predictedMs));
    },
    onResult: ({ at, cycleMs, planningMs, tokens, draft }) => {
      if (plan !== null) steps.push({ add, cancel, plan, result: { at, cycleMs, planningMs, tokens, draft } });
    },
  });
  const all = arrivals();
  let [add, cancel]: [SequenceRequest[], string[]] = [[], []];
  for (let step = 0; core.busy || all.size > 0; step++) {
    add = all.get(step) ?? [];
    all.delete(step);
    cancel = step === 14 ? ['cancelled'] : [];
    for (const request of add) core.submit(request);
    for (const id of cancel) core.cancel(id);
    core.step();
  }
  return steps;
}

function replayed(steps: readonly RecordedStep[]): { plans: StepPlan[]; sequences: Sequence[] } {
  const table = new SlotTable(model.limits.slots, unitsOf(model), model.bytesPerPosition);
  const { maxRows, maxChunk } = model.limits;
  const scheduler = new Scheduler(table, {
    ...options,
    ...{ shape, costs, priors: { lengths: null }, slowdown: 1, mostPrefill: Infinity },
    drafts: { speculate: 'all', most: Math.min(maxRows, maxChunk) - 1, hasGate: false },
  });
  const sequences: Sequence[] = [];
  const plans = steps.map(({ add, cancel, plan: { at }, result }) => {
    for (const request of add) sequences.push(scheduler.add(request));
    for (const id of cancel) scheduler.cancel(id, 'cancelled');
    const plan = scheduler.schedule(at);
    scheduler.commit(plan, result);
    return plan;
  });
  return { plans, sequences };
}

const plain = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

if (process.env.SORTIE_TEST_RECORD === '1')
  writeFileSync(
    file,
    `[\n${recorded()
      .map((step) => JSON.stringify(step))
      .join(',\n')}\n]\n`,
  );

void t.test('a recorded run gives the recorded plans', async (t) => {
  const steps = JSON.parse(readFileSync(file, 'utf8')) as RecordedStep[];
  const { plans: found, sequences } = replayed(steps);
  const plans = plain(found);
  for (const [i, { plan }] of steps.entries()) t.strictSame(plans[i], plan, `step ${i}`);
  const of = <T>(part: (plan: StepPlan) => readonly T[]): T[] => steps.flatMap(({ plan }) => part(plan));
  t.match(
    of(({ rejected }) => rejected).map(({ id }) => id),
    ['hopeless'],
  );
  t.same(
    of(({ ended }) => ended)
      .map(({ id, reason }) => `${id} ${reason}`)
      .sort(),
    ['asks length', 'cancelled cancelled', 'cut deadline'],
  );
  t.ok(
    sequences.some(({ preemptions }) => preemptions > 0),
    'preempted',
  );
  t.ok(
    of(({ memory }) => memory).some(({ op }) => op === 'copy'),
    'a copied prefix',
  );
  t.ok(
    steps.some(({ plan }) => plan.draft !== null),
    'a draft',
  );
});
