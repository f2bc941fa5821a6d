/** Somebody in the middle of an answer, and the plan of who is live where nothing was learnt and nothing is kept back. */
import { type Budget, type RouterState, type SequenceState, nothingLearned, replan } from '../../src/router/planner.js';
import type { Planned } from '../../src/router/replan.js';
import { exactPolicy, noMargin } from './arbitrary.js';
import { layers, sample } from './sample.js';

export const NOW = 1000;
export const nothing: Budget = { totalMs: null, ttftMs: null, tpotMs: null, onMiss: 'continue' };

/** At full depth: 40 tokens of 80, one each 8 ms. */
export function decoding(id: string, budget: Partial<Budget>, more: Partial<SequenceState> = {}): SequenceState {
  return {
    ...{ id, arrivedAt: 0, promptLength: 200, generated: 40, maxTokens: 80, minExit: 10, exit: 30, maxExit: 30 },
    ...{ budget: { ...nothing, ...budget }, promised: true, tokensAtExit: 40 },
    ...{ firstTokenAt: NOW - 39 * 8, lastTokenAt: NOW, frontier: layers.map(() => 239) },
    ...more,
  };
}

export function planOf(live: readonly SequenceState[], now = NOW): Planned {
  const learned = { ...nothingLearned, promises: noMargin, told: noMargin };
  const state: RouterState = { now, slots: 16, kvRoom: 1e6, live, waiting: [], learned };
  return replan(live, state, sample, exactPolicy);
}
