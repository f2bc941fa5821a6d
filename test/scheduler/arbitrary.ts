/** Random but possible requests and states of an engine, for property tests. */
import fc from 'fast-check';
import t from 'tap';
import type { Budget } from '../../src/protocol/index.js';
import type { Sequence } from '../../src/engine/scheduler/sequence.js';
import type { Occupancy } from '../../src/engine/scheduler/snapshot.js';
import type { SimulatedRequest } from '../simulator/simulated-request.js';
import { cases } from '../support/cases.js';
import { type Given, asking, prompting, simulated, stateOf } from './fixtures.js';
import { layers } from './sample.js';

/** Fixed seeds: a failure must be there again tomorrow. Shrinking takes minutes. */
export const runs = { numRuns: 150, seed: 20_26, endOnFailure: true };

/** A test of a property, which a predicate denies with `false` or an error. */
export function holds<Ts extends [unknown, ...unknown[]]>(
  title: string,
  ...parts: [...values: { [K in keyof Ts]: fc.Arbitrary<Ts[K]> }, predicate: (...values: Ts) => boolean]
): void {
  void t.test(title, async () => {
    fc.assert(fc.property(...parts), { ...runs, numRuns: cases(runs.numRuns) });
  });
}

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

const kind = fc.constantFrom('chat' as const, 'completion' as const, 'schema' as const, 'tools' as const);

type Parts = readonly [id: string, budget: Budget | null, given: Given & Required<Pick<Given, Stated>>];
type Stated = 'arrivedAt' | 'promptLength' | 'maxTokens' | 'exit';

/** A request of an engine whose time is 10 s. */
const request: fc.Arbitrary<Parts> = fc
  .record({
    id: fc.uuid(),
    arrivedAt: fc.integer({ min: 0, max: 10_000 }),
    promptLength: fc.integer({ min: 1, max: 1500 }),
    maxTokens: fc.integer({ min: 1, max: 300 }),
    isExactLength: fc.boolean(),
    kind,
    budget: fc.option(budget),
    serviceClass: fc.constantFrom('guaranteed' as const, 'best_effort' as const),
    depth,
  })
  .map(({ depth: bounds, id, budget: stated, ...rest }) => [id, stated, { ...rest, ...bounds }]);

export const waiting: fc.Arbitrary<Sequence> = request.map((parts) => asking(...parts));

/** Somewhere in its prompt, or in the middle of its answer. */
export const live: fc.Arbitrary<Sequence> = fc
  .tuple(request, fc.double({ min: 0, max: 1, noNaN: true }))
  .map(([[id, stated, given], progress]) => {
    const { arrivedAt, promptLength, maxTokens, exit: own } = given;
    const isDecoding = progress > 0.3;
    const generated = isDecoding ? Math.max(1, Math.floor((maxTokens - 1) * progress)) : 0;
    const seen = isDecoding ? promptLength + generated - 1 : Math.floor(promptLength * progress);
    const firstTokenAt = isDecoding ? arrivedAt + 50 : null;
    const lastTokenAt = firstTokenAt === null ? null : firstTokenAt + generated * 5;
    const frontier = layers.map((layer) => (layer <= own ? seen : Math.floor(seen / 2)));
    return prompting(id, stated, { ...given, generated, firstTokenAt, lastTokenAt, frontier });
  });

export const state: fc.Arbitrary<Occupancy> = fc
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
        ...{ promptLength, isExactLength, kind: 'chat', lengths },
        maxTokens: isExactLength ? tokens : 256,
      });
    });
  });
