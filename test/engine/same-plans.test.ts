/** The same requests and step times give the same plans, on the engine and on the simulator's executor. */
import fc from 'fast-check';
import t from 'tap';
import { depthShape } from '../../src/engine/depth-shape.js';
import { positionBytes } from '../../src/engine/execution/slot-memory.js';
import { EngineCore } from '../../src/engine/worker/core.js';
import type { StageKernel } from '../../src/model/manifest.js';
import { SlotAccount } from '../../src/scheduler/kv/slot-account.js';
import { SlotTable } from '../../src/scheduler/kv/slot-table.js';
import { defaultPolicy } from '../../src/scheduler/policy.js';
import { Scheduler } from '../../src/scheduler/scheduler.js';
import type { StepPlan } from '../../src/scheduler/step-plan.js';
import { unitsOf } from '../../src/scheduler/kv/units.js';
import { simulate } from '../../src/simulate/simulated-engine.js';
import { engineRequest, type SimulatedRequest } from '../../src/simulate/simulated-request.js';
import { makeExecutor, slotParts } from './helper.js';
import { tinyModel } from './tiny-model.js';

const SLOTS = 3;
const executor = await makeExecutor(t, { modelDir: await tinyModel(t, 'float'), maxRunning: SLOTS });
const { model } = slotParts(executor);
const { manifest, limits, bytesPerPosition } = model;
const shape = depthShape(manifest);
const layers = shape.exits.map(({ layer }) => layer);
/** A row takes a millisecond in a unit, a position of a chunk a tenth. */
const points = (ms: number) => [
  { rows: 1, context: 0, ms },
  { rows: 100, context: 0, ms: 100 * ms },
];
const names = [...shape.stages, ...shape.exits.flatMap(({ block }) => block ?? [])];
const [kernel]: readonly StageKernel[] = executor.kernels;
const costs = {
  units: names.map((unit) => ({ unit, kernel: kernel ?? '', decode: points(1), prefill: points(0.1) })),
};

/** Bounds of 100 positions: sequences preempt each other. */
const kvBytes = 100 * bytesPerPosition;
const options = {
  ...{ maxRunning: SLOTS, maxQueue: 100, kvBytes, prefixReuse: true, prefillChunk: 16, policy: defaultPolicy },
};

/** The plans of the engine. @param stepMs by step */
function engineRun(requests: readonly SimulatedRequest[], stepMs: (step: number) => number): StepPlan[] {
  const plans: StepPlan[] = [];
  let now = requests[0]?.arrivedAt ?? 0;
  const core = new EngineCore(executor, costs, {
    ...options,
    speculate: 'off',
    clock: () => now,
    onPlan: (plan) => {
      now += hasWork(plan) ? stepMs(plans.length) : 0;
      plans.push(plan);
    },
  });
  let next = 0;
  while (next < requests.length || core.busy) {
    if (!core.busy) now = Math.max(now, requests[next]?.arrivedAt ?? now);
    for (let each = requests[next]; each !== undefined && each.arrivedAt <= now; each = requests[next])
      core.submit(engineRequest(each, next++, shape));
    core.step();
  }
  executor.forget(0);
  return plans;
}

function simulatedRun(requests: readonly SimulatedRequest[], stepMs: (step: number) => number): StepPlan[] {
  const units = unitsOf(model);
  const table = new SlotTable(limits.slots, units, new SlotAccount(units, positionBytes(model, units)));
  const scheduler = new Scheduler(units, table, {
    ...options,
    ...{ shape, costs, priors: { lengths: null, partialValue: null }, slowdown: 1, mostPrefill: Infinity },
    ...{ maxStallMs: defaultPolicy.maxStallMs, bytesPerPosition },
    drafts: { speculate: 'off', maxRows: limits.maxRows, maxChunk: limits.maxChunk, hasGate: false },
  });
  const plans: StepPlan[] = [];
  const actual = (work: StepPlan['work']): number =>
    work.decode === null && work.prefill.length === 0 ? 0 : stepMs(plans.length);
  const run = simulate(requests, { slots: SLOTS, kvPositions: 100, actual }, scheduler);
  for (let step = run.next(); step.done !== true; step = run.next()) plans.push(step.value.plan);
  return plans;
}

function hasWork({ chunks, rows }: StepPlan): boolean {
  return chunks.length + rows.length > 0;
}

const exit = fc.constantFrom(...layers);
const requests: fc.Arbitrary<SimulatedRequest[]> = fc
  .array(
    fc.record({
      gapMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 60 })),
      promptLength: fc.integer({ min: 1, max: 40 }),
      // Shorter than a sentence of the simulator: the engine has no texts here.
      maxTokens: fc.integer({ min: 1, max: 17 }),
      tenant: fc.constantFrom('a', 'b'),
      exits: fc.tuple(exit, exit),
      budget: fc.option(
        fc.record({
          totalMs: fc.option(fc.integer({ min: 20, max: 2000 })),
          ttftMs: fc.option(fc.integer({ min: 10, max: 500 })),
          tpotMs: fc.constant(null),
          onMiss: fc.constantFrom('continue' as const, 'reject' as const),
        }),
      ),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((all) => {
    let arrivedAt = 0;
    return all.map(({ gapMs, maxTokens, exits, ...rest }, i) => {
      arrivedAt += gapMs;
      const [minExit = 0, maxExit = 0] = exits.toSorted((a, b) => a - b);
      return {
        ...{ ...rest, id: `r${i}`, arrivedAt, maxTokens, minExit, maxExit },
        ...{ lengths: layers.map(() => maxTokens), isExactLength: true, budgetClass: 'any' },
        lengthGroup: { kind: 'chat', key: null },
      };
    });
  });

void t.test('engine and simulator have the same plans', async (t) => {
  let [preempted, chunks, rejected] = [0, 0, 0];
  fc.assert(
    fc.property(requests, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (asked, times) => {
      const stepMs = (step: number): number => times[step % times.length] ?? 1;
      const plans = engineRun(asked, stepMs);
      preempted += plans.reduce((sum, plan) => sum + plan.preempted.length, 0);
      chunks += plans.reduce((sum, plan) => sum + plan.chunks.length, 0);
      rejected += plans.reduce((sum, plan) => sum + plan.rejected.length, 0);
      const [engine, simulator] = [plans, simulatedRun(asked, stepMs)].map((each) => JSON.stringify(each));
      return engine === simulator;
    }),
    { numRuns: 60, seed: 20_26, endOnFailure: true },
  );
  t.ok(
    preempted > 10 && chunks > 100 && rejected > 10,
    `${preempted} preempted, ${chunks} chunks, ${rejected} rejected`,
  );
});
