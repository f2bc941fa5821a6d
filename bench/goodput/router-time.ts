/**
 * What the router itself takes for a step with 64 live requests, against what the step takes.
 *
 * Knows: the planner, a cost table. Must not know: servers.
 */
import { performance } from 'node:perf_hooks';
import type { CostTable } from '../../src/router/cost.js';
import {
  type DepthShape,
  type RouterState,
  type SequenceState,
  chooseChunk,
  costModel,
  defaultPolicy,
  nothingLearned,
  order,
  predictMs,
  replan,
} from '../../src/router/planner.js';
import { median } from '../stats.js';

export interface RouterTime {
  readonly live: number;
  readonly routerMs: number;
  /** Of a step in which all rows run, everybody at the shallowest and at the deepest exit. */
  readonly shallowStepMs: number;
  readonly deepStepMs: number;
}

const STEPS = 200;

/** Everybody in the middle of an answer, eight prompts going on, budgets of all sizes. */
export function routerTime(table: CostTable, shape: DepthShape, live = 64): RouterTime {
  const model = costModel(table, shape);
  const layers = shape.exits.map(({ layer }) => layer);
  const rows = (exit: number): number[] => layers.map((_, i) => (i === exit ? live : 0));
  const stepMs = (exit: number): number =>
    predictMs(model, { decode: { rows: rows(exit), context: 300 }, prefill: [] });
  const whole = stepMs(layers.length - 1);
  const times: number[] = [];
  for (let step = 0; step < STEPS; step += 1) {
    const now = 100_000 + step * whole;
    const sequences = Array.from({ length: live }, (_, i): SequenceState => {
      const generated = i % 8 === 7 ? 0 : 1 + ((i * 7 + step) % 90);
      const promptLength = 100 + ((i * 37) % 300);
      const seen = generated === 0 ? 0 : promptLength + generated - 1;
      const exit = layers[i % layers.length] ?? 1;
      const arrivedAt = now - generated * whole - 500;
      const totalMs = (100 * whole + 500) * (1 + (i % 5) / 2);
      return {
        ...{ id: `r${i}`, arrivedAt, promptLength, generated, maxTokens: 100, exit, promised: true },
        ...{ minExit: layers[0] ?? 1, maxExit: layers.at(-1) ?? 1 },
        budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'continue' },
        frontier: layers.map((layer) => (layer <= exit ? seen : Math.max(0, seen - 5))),
        firstTokenAt: generated === 0 ? null : arrivedAt + 500,
        lastTokenAt: generated === 0 ? null : now,
        tokensAtExit: 20,
      };
    });
    const state: RouterState = {
      ...{ now, slots: live, kvRoom: 1e6, live: sequences, waiting: [], learned: nothingLearned },
    };
    const start = performance.now();
    order(state.waiting, now, state.learned.lengths, model, defaultPolicy);
    chooseChunk(replan(sequences, state, model, defaultPolicy).plan);
    times.push(performance.now() - start);
  }
  return {
    live,
    routerMs: median(times.slice(STEPS / 4)),
    shallowStepMs: stepMs(0),
    deepStepMs: whole,
  };
}
