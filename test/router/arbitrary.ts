/** Random but possible states of an engine, for property tests. */
import fc from 'fast-check';
import {
  type Budget,
  type Policy,
  type RouterState,
  type SequenceState,
  type WaitingRequest,
  defaultPolicy,
  nothingLearned,
} from '../../src/router/planner.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { layers } from './sample.js';

/** Answers get as long as max_tokens says: nothing is learnt, everything is known. */
export const exactPolicy: Policy = { ...defaultPolicy, lengthQuantile: 1 };

/** Of promises that need no margin, and of which nothing is left to learn. */
export const noMargin = { margin: 0, first: 0, at: 0, seen: Infinity, aim: 0.99 };

/** Nothing is learnt, and nothing has to be. */
const exact = { ...nothingLearned, promises: noMargin, told: noMargin };

const exit = fc.constantFrom(...layers);

export const budget: fc.Arbitrary<Budget> = fc.record({
  totalMs: fc.option(fc.integer({ min: 20, max: 20_000 })),
  ttftMs: fc.option(fc.integer({ min: 10, max: 3_000 })),
  tpotMs: fc.option(fc.integer({ min: 1, max: 60 })),
  onMiss: fc.constantFrom('continue', 'truncate', 'reject'),
});

/** Bounds in order, and an exit between them. */
const depth = fc.tuple(exit, exit, exit).map((three) => {
  const [minExit = 10, middle = 10, maxExit = 10] = [...three].sort((a, b) => a - b);
  return { minExit, exit: middle, maxExit };
});

export const waiting: fc.Arbitrary<WaitingRequest> = fc
  .record({
    id: fc.uuid(),
    arrivedAt: fc.integer({ min: 0, max: 10_000 }),
    promptLength: fc.integer({ min: 1, max: 1500 }),
    maxTokens: fc.integer({ min: 1, max: 300 }),
    budget: fc.option(budget),
    promised: fc.boolean(),
    depth,
  })
  .map(({ depth: bounds, ...rest }) => ({ ...rest, ...bounds, generated: 0 }));

/** Somewhere in its prompt, or in the middle of its answer. */
export const live: fc.Arbitrary<SequenceState> = fc
  .record({ request: waiting, progress: fc.double({ min: 0, max: 1, noNaN: true }), tokensAtExit: fc.nat(30) })
  .map(({ request, progress, tokensAtExit }) => {
    const decoding = progress > 0.3;
    const generated = decoding ? Math.max(1, Math.floor((request.maxTokens - 1) * progress)) : 0;
    const seen = decoding ? request.promptLength + generated - 1 : Math.floor(request.promptLength * progress);
    const firstTokenAt = decoding ? request.arrivedAt + 50 : null;
    return {
      ...request,
      generated,
      frontier: layers.map((layer) => (layer <= request.exit ? seen : Math.floor(seen / 2))),
      firstTokenAt,
      lastTokenAt: firstTokenAt === null ? null : firstTokenAt + generated * 5,
      tokensAtExit,
    };
  });

export const state: fc.Arbitrary<RouterState> = fc
  .record({
    live: fc.array(live, { maxLength: 20 }),
    waiting: fc.array(waiting, { maxLength: 10 }),
    kvRoom: fc.integer({ min: 0, max: 100_000 }),
  })
  .map((some) => ({ ...some, now: 10_000, slots: 24, learned: exact }));

/** A few seconds of arrivals, in bursts or not. */
export const arrivals: fc.Arbitrary<SimulatedRequest[]> = fc
  .array(
    fc.record({
      gapMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 400 })),
      promptLength: fc.integer({ min: 1, max: 600 }),
      tokens: fc.integer({ min: 1, max: 60 }),
      budget: fc.option(budget, { freq: 6 }),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((all) => {
    let arrivedAt = 0;
    return all.map(({ gapMs, ...request }, i) => {
      arrivedAt += gapMs;
      const bounds = { minExit: null, maxExit: null, budgetClass: 'any' };
      return { id: `r${i}`, arrivedAt, maxTokens: request.tokens, ...request, ...bounds };
    });
  });
