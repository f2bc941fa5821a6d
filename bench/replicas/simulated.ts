/** A run of real replicas in the simulator: the same arrivals, lengths and budgets, and the speeds that were measured. */
import { costModel, predictMs } from '../../src/cost/model.js';
import { SERVE_OPTIONS } from '../../src/config.js';
import { defaultPolicy, Router } from '../../src/scheduler/router.js';
import { type Balancer, leastRequest, weighted } from '../../src/simulate/balance.js';
import type { CostFile } from '../../src/simulate/costs.js';
import { simulateFleet } from '../../src/simulate/replicas.js';
import { isMet, reportOf } from '../../src/simulate/report.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { seeded } from '../../src/util/random.js';
import { factorAt, type Speed } from './speed.js';

export const SIDES = ['split', 'haproxy', 'envoy'] as const;
export type Side = (typeof SIDES)[number];

/** One request, and its answer as the client sees it. */
export interface Answered {
  /** Milliseconds from the start of the run. */
  readonly atMs: number;
  readonly budgetMs: number;
  readonly promptTokens: number;
  readonly tokens: number;
  readonly ms: number;
  readonly exits: Readonly<Record<string, number>>;
}

export interface Run {
  readonly side: Side;
  readonly rate: number;
  readonly seed: number;
  readonly answers: readonly Answered[];
  /** Of each replica. */
  readonly speeds: readonly (readonly Speed[])[];
}

/** Share of answers in budget, and mean quality of their tokens. */
export interface Result {
  readonly met: number;
  readonly quality: number;
}

export function measured({ answers }: Run, { shape }: CostFile): Result {
  let [sum, tokens] = [0, 0];
  for (const [layer, count] of answers.flatMap(({ exits }) => Object.entries(exits))) {
    const exit = shape.exits.find((each) => each.layer === Number(layer));
    if (exit === undefined) throw new Error(`no exit ${layer} in the costs`);
    sum += exit.quality * count;
    tokens += count;
  }
  return { met: answers.filter(({ ms, budgetMs }) => ms <= budgetMs).length / answers.length, quality: sum / tokens };
}

/** To separate servers in turns. */
function turns(): Balancer {
  let next = 0;
  return (servers) => next++ % servers.length;
}

const BALANCERS: Readonly<Record<Side, () => Balancer>> = {
  split: turns,
  haproxy: () => leastRequest(seeded(1)),
  envoy: weighted,
};

/** @param overheadMs time of a request outside the engine's steps */
export function simulated(
  { side, answers, speeds }: Run,
  { cost, shape }: CostFile,
  { kvPositions, overheadMs }: { readonly kvPositions: number; readonly overheadMs: number },
): Result {
  const costs = costModel(cost, shape);
  const minExit = shape.exits.find(({ right }) => right >= SERVE_OPTIONS.minRight.default)?.layer ?? null;
  const requests = answers.map(({ atMs, budgetMs, promptTokens, tokens }, i): SimulatedRequest => ({
    ...{ id: `r${i}`, arrivedAt: atMs, promptLength: promptTokens },
    ...{ lengths: shape.exits.map(() => tokens), maxTokens: tokens, isExactLength: true },
    ...{ lengthGroup: { kind: 'completion', key: null }, minExit, maxExit: null, budgetClass: String(budgetMs) },
    budget: { totalMs: budgetMs, ttftMs: null, tpotMs: null, onMiss: 'land' },
  }));
  const { outcomes } = simulateFleet(requests, {
    machines: speeds.map((each) => {
      const factor = factorAt(each);
      const actual = (work: Parameters<typeof predictMs>[1], now: number) => predictMs(costs, work) * factor(now);
      return { slots: SERVE_OPTIONS.maxRunning.default, kvPositions, overheadMs, actual };
    }),
    ...{ routerOf: () => new Router(shape, cost, defaultPolicy), costs, policy: defaultPolicy },
    balancer: BALANCERS[side](),
  });
  return { met: outcomes.filter(isMet).length / requests.length, quality: reportOf(outcomes, shape).meanQuality };
}
