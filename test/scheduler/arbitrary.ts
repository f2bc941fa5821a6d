/** Random but possible requests and states of an engine, for property tests. */
import fc from 'fast-check';
import type { Budget, EngineState, RequestView, SequenceView } from '../../src/scheduler/router.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { asking, chat, simulated, stateOf } from './fixtures.js';
import { layers } from './sample.js';

/** Fixed seeds: a failure must be there again tomorrow. Shrinking takes minutes. */
export const runs = { numRuns: 150, seed: 20_26, endOnFailure: true };

const exit = fc.constantFrom(...layers);

export const budget: fc.Arbitrary<Budget> = fc.record({
  totalMs: fc.option(fc.integer({ min: 20, max: 20_000 })),
  ttftMs: fc.option(fc.integer({ min: 10, max: 3_000 })),
  tpotMs: fc.option(fc.integer({ min: 1, max: 60 })),
  onMiss: fc.constantFrom('land', 'continue', 'truncate', 'reject'),
});

export const factor = fc.double({ min: 1, max: 20, noNaN: true });

/** The same budget with every stated limit `times` as large. */
export function larger(small: Budget, times: number): Budget {
  const grow = (ms: number | null): number | null => (ms === null ? null : ms * times);
  return { ...small, totalMs: grow(small.totalMs), ttftMs: grow(small.ttftMs), tpotMs: grow(small.tpotMs) };
}

/** Bounds in order, and an exit between them. */
const depth = fc.tuple(exit, exit, exit).map((three) => {
  const [minExit = 10, middle = 10, maxExit = 10] = [...three].sort((a, b) => a - b);
  return { minExit, exit: middle, maxExit };
});

const lengthGroup = fc.record({
  kind: fc.constantFrom('chat' as const, 'completion' as const, 'schema' as const, 'tools' as const),
  key: fc.option(fc.constantFrom('a', 'b')),
});

/** A waiting request of an engine whose time is 10 s. */
export const waiting: fc.Arbitrary<RequestView> = fc
  .record({
    id: fc.uuid(),
    arrivedAt: fc.integer({ min: 0, max: 10_000 }),
    promptLength: fc.integer({ min: 1, max: 1500 }),
    maxTokens: fc.integer({ min: 1, max: 300 }),
    isExactLength: fc.boolean(),
    lengthGroup,
    budget: fc.option(budget),
    serviceClass: fc.constantFrom('guaranteed' as const, 'best_effort' as const),
    depth,
  })
  .map(({ depth: bounds, id, budget: stated, ...rest }) => asking(id, stated, { ...rest, ...bounds }));

/** Somewhere in its prompt, or in the middle of its answer. */
export const live: fc.Arbitrary<SequenceView> = fc
  .record({ request: waiting, progress: fc.double({ min: 0, max: 1, noNaN: true }) })
  .map(({ request, progress }) => {
    const isDecoding = progress > 0.3;
    const generated = isDecoding ? Math.max(1, Math.floor((request.maxTokens - 1) * progress)) : 0;
    const seen = isDecoding ? request.promptLength + generated - 1 : Math.floor(request.promptLength * progress);
    const firstTokenAt = isDecoding ? request.arrivedAt + 50 : null;
    const frontier = layers.map((layer) => (layer <= request.exit ? seen : Math.floor(seen / 2)));
    return {
      ...{ ...request, generated, firstTokenAt, frontier, expectedFrontier: frontier },
      lastTokenAt: firstTokenAt === null ? null : firstTokenAt + generated * 5,
    };
  });

export const state: fc.Arbitrary<EngineState> = fc
  .record({
    live: fc.uniqueArray(live, { maxLength: 20, selector: ({ id }) => id }),
    waiting: fc.uniqueArray(waiting, { maxLength: 10, selector: ({ id }) => id }),
  })
  .map((some) => stateOf({ ...some, now: 10_000, slots: 24 }));

/** A few seconds of arrivals, in bursts or not: exact and natural lengths, with any budget or none. */
export const arrivals: fc.Arbitrary<SimulatedRequest[]> = fc
  .array(
    fc.record({
      gapMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 400 })),
      promptLength: fc.integer({ min: 1, max: 600 }),
      tokens: fc.integer({ min: 1, max: 60 }),
      isExactLength: fc.boolean(),
      budget: fc.option(budget, { freq: 6 }),
    }),
    { minLength: 1, maxLength: 30 },
  )
  .map((all) => {
    let arrivedAt = 0;
    return all.map(({ gapMs, promptLength, tokens, isExactLength, budget: stated }, i) => {
      arrivedAt += gapMs;
      // Natural answers are long enough to land.
      const lengths = layers.map(() => (isExactLength ? tokens : 4 * tokens));
      return simulated(`r${i}`, arrivedAt, stated, {
        ...{ promptLength, isExactLength, lengthGroup: chat, lengths },
        maxTokens: isExactLength ? tokens : 256,
      });
    });
  });
