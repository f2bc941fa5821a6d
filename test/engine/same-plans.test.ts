/** The same requests and step times give the same plans, on the engine and on the simulator's executor. */
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { depthShape } from '../../src/engine/depth-shape.js';
import type { Executor } from '../../src/engine/execution/executor.js';
import { EngineCore } from '../../src/engine/worker/core.js';
import type { StageKernel } from '../../src/engine/model/manifest.js';
import { SlotTable } from '../../src/engine/scheduler/kv/slot-table.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import type { StepPlan } from '../../src/engine/scheduler/step-plan.js';
import { unitsOf } from '../../src/engine/scheduler/kv/units.js';
import { simulate } from '../simulator/simulated-engine.js';
import { engineRequest, type SimulatedRequest } from '../simulator/simulated-request.js';
import { promptModel, writePromptModel } from '../convert/prompt-models.js';
import { makeExecutor, slotParts } from './helper.js';
import { tinyModel } from './tiny-model.js';

const SLOTS = 3;

/** A row takes a millisecond in a unit, a position of a chunk a tenth, and that of keys alone a hundredth. */
const points = (ms: number) => [
  { rows: 1, context: 0, ms },
  { rows: 100, context: 0, ms: 100 * ms },
];

/** The executor of a model, and what a scheduler knows of it. */
function machineOf(executor: Executor) {
  const { model } = slotParts(executor);
  const shape = depthShape(model.manifest);
  const [kernel = 'fp32']: readonly StageKernel[] = executor.kernels;
  const names = [...shape.stages, ...shape.exits.flatMap(({ block }) => block ?? [])];
  const costs = {
    units: names.map((unit) => {
      return { unit, kernel, decode: points(1), prefill: points(unit.startsWith('prompt') ? 0.01 : 0.1) };
    }),
  };
  // Bounds of 100 positions: sequences preempt each other.
  const options = {
    ...{ maxRunning: SLOTS, maxQueue: 100, kvBytes: 100 * model.bytesPerPosition, prefixReuse: true },
    ...{ prefillChunk: 16, policy: defaultPolicy },
  };
  return { executor, model, shape, costs, options };
}

type TestMachine = ReturnType<typeof machineOf>;

/** A model with a prompt exit. */
async function promptExecutor(): Promise<Executor> {
  const dir = t.testdir();
  const model = promptModel('Llama', { layers: 5, exit: 2, group: 2 });
  const out = join(dir, 'out');
  const source = writePromptModel(dir, model, { max_position_embeddings: 128 });
  await convert({ source, out, exits: [1, 5], kernels: ['fp32'], compress: false, force: false });
  return makeExecutor(t, { modelDir: out, maxRunning: SLOTS });
}

const machines: [string, TestMachine][] = [
  ['exits', machineOf(await makeExecutor(t, { modelDir: await tinyModel(t, 'float'), maxRunning: SLOTS }))],
  ['a prompt exit', machineOf(await promptExecutor())],
];

/** The plans of the engine. @param stepMs by step */
function engineRun(
  { executor, shape, costs, options }: TestMachine,
  requests: readonly SimulatedRequest[],
  stepMs: (step: number) => number,
): { readonly plans: StepPlan[]; readonly preempted: number } {
  const plans: StepPlan[] = [];
  let preempted = 0;
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
    for (const { preemptions } of core.step().ended) preempted += preemptions;
  }
  executor.forget(0);
  return { plans, preempted };
}

function simulatedRun(
  { model, shape, costs, options }: TestMachine,
  requests: readonly SimulatedRequest[],
  stepMs: (step: number) => number,
): StepPlan[] {
  const table = new SlotTable(model.limits.slots, unitsOf(model), model.bytesPerPosition);
  const scheduler = new Scheduler(table, {
    ...options,
    ...{ shape, costs, priors: { lengths: null }, slowdown: 1, mostPrefill: Infinity },
    drafts: { speculate: 'off', most: 0, hasGate: false },
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

function requestsFor({ shape }: TestMachine): fc.Arbitrary<SimulatedRequest[]> {
  const layers = [...new Set(shape.exits.map(({ layer }) => layer))];
  const exit = fc.constantFrom(...layers);
  return fc
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
          ...{ lengths: shape.exits.map(() => maxTokens), isExactLength: true, budgetClass: 'any' },
          kind: 'chat',
        };
      });
    });
}

for (const [name, machine] of machines)
  void t.test(`engine and simulator have the same plans: ${name}`, async (t) => {
    let [preempted, chunks, rejected] = [0, 0, 0];
    fc.assert(
      fc.property(requestsFor(machine), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (asked, times) => {
        const stepMs = (step: number): number => times[step % times.length] ?? 1;
        const { plans, preempted: count } = engineRun(machine, asked, stepMs);
        preempted += count;
        chunks += plans.reduce((sum, plan) => sum + plan.chunks.length, 0);
        rejected += plans.reduce((sum, plan) => sum + plan.rejected.length, 0);
        const [engine, simulator] = [plans, simulatedRun(machine, asked, stepMs)].map((each) => JSON.stringify(each));
        return engine === simulator;
      }),
      { numRuns: 60, seed: 20_26, endOnFailure: true },
    );
    t.ok(
      preempted > 5 && chunks > 100 && rejected > 10,
      `${preempted} preempted, ${chunks} chunks, ${rejected} rejected`,
    );
  });
