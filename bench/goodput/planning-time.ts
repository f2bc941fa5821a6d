/** Measures the scheduler's time for a step with 64 requests, in the simulator. The engine's own work is not counted. */
import { performance } from 'node:perf_hooks';
import { calibrate, calibrationPlan } from '../../src/engine/calibration/calibrate.js';
import { Executor } from '../../src/engine/execution/executor.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import { type DepthShape, costModel, deepestOf, predictMs } from '../../src/engine/scheduler/cost/model.js';
import type { CostTable } from '../../src/engine/scheduler/cost/table.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { monotonicMs } from '../../src/util/clock.js';
import { simulate } from '../../test/simulator/simulated-engine.js';
import { type Machine, simulatedScheduler } from '../../test/simulator/machine.js';
import type { SimulatedRequest } from '../../test/simulator/simulated-request.js';
import { meanOf } from '../loadgen/summary.js';
import { engineOptions } from '../options.js';

export interface PlanningTime {
  readonly live: number;
  /** Mean milliseconds of a step without arrivals, and of an arrival in addition. */
  readonly stepMs: number;
  readonly admitMs: number;
  /** Arrivals per step; as many answers end. */
  readonly arrivals: number;
  /** Time of a step with all rows at the shallowest and at the deepest exit. */
  readonly shallowStepMs: number;
  readonly deepStepMs: number;
}

const WARM_UP_STEPS = 200;
const MEASURED_STEPS = 600;
const ANSWER_TOKENS = 90;

/** The costs of a model folder's units on this machine. */
export async function measuredCosts(modelDir: string, threads: number): Promise<CostTable> {
  const [maxRunning, prefillChunk] = [16, 128];
  const executor = new Executor(
    await loadModel(
      engineOptions(modelDir, threads, { kvMemoryBytes: 2 ** 30, maxRunning, maxQueue: 0, prefillChunk }),
    ),
  );
  const plan = calibrationPlan(maxRunning, prefillChunk, executor.model.limits.capacity);
  const costs = calibrate(executor, { ...plan, repeats: 10, patienceMs: 60_000 }, monotonicMs);
  executor.dispose();
  return costs;
}

/** Clients that never pause get answers of equal length, so that one ends every few steps, with various budgets. */
export function planningTime(table: CostTable, shape: DepthShape, live = 64): PlanningTime {
  const costs = costModel(table, shape);
  const deepest = deepestOf(shape);
  const stepMs = (exit: number): number =>
    predictMs(costs, {
      decode: { rows: shape.exits.map((_, i) => (i === exit ? live : 0)), context: 300 },
      prefill: [],
    });
  const wholeMs = (ANSWER_TOKENS + 8) * stepMs(deepest);
  const request = (i: number): SimulatedRequest => {
    // The first answers are shorter, so that starts are spread over the steps of an answer.
    const tokens = Math.max(1, Math.round(ANSWER_TOKENS * Math.min(1, (i + 1) / live)));
    const totalMs = wholeMs * (0.5 + (i % 5) / 2);
    return {
      ...{ id: `r${i}`, arrivedAt: 0, promptLength: 100 + ((i * 37) % 300), lengths: shape.exits.map(() => tokens) },
      ...{ maxTokens: ANSWER_TOKENS, isExactLength: false, kind: 'chat' },
      ...{ minExit: null, maxExit: null, budgetClass: 'all' },
      budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'land' },
    };
  };
  const machine: Machine = {
    slots: live,
    kvPositions: 100_000,
    clients: live,
    actual: (work) => predictMs(costs, work),
  };
  const scheduler = simulatedScheduler(machine, { shape, table, policy: defaultPolicy });
  const steps: { readonly ms: number; readonly arrivals: number }[] = [];
  const schedule = scheduler.schedule.bind(scheduler);
  scheduler.schedule = (now) => {
    const arrivals = scheduler.arrived;
    const start = performance.now();
    const plan = schedule(now);
    steps.push({ ms: performance.now() - start, arrivals });
    return plan;
  };
  const requests = Array.from({ length: live + 2 * (WARM_UP_STEPS + MEASURED_STEPS) }, (_, i) => request(i));
  const run = simulate(requests, machine, scheduler);
  while (steps.length < WARM_UP_STEPS + MEASURED_STEPS) run.next();
  const measured = steps.slice(WARM_UP_STEPS);
  const alone = meanOf(measured.filter(({ arrivals }) => arrivals === 0).map(({ ms }) => ms));
  const arrivals = meanOf(measured.map((step) => step.arrivals));
  const admitMs = (meanOf(measured.map(({ ms }) => ms)) - alone) / arrivals;
  return { live, stepMs: alone, admitMs, arrivals, shallowStepMs: stepMs(0), deepStepMs: stepMs(deepest) };
}
