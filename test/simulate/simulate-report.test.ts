/** Summaries of known outcomes. */
import t from 'tap';
import type { ServiceClass } from '../../src/protocol/index.js';
import type { Admission } from '../../src/engine/scheduler/types.js';
import type { Outcome } from '../simulator/simulated-engine.js';
import { reportOf } from '../simulator/simulate-report.js';
import { shape } from '../scheduler/sample.js';

type Known = Partial<Pick<Outcome, 'reason' | 'firstTokenAt' | 'endedAt' | 'tokens'>> & {
  readonly arrivedAt?: number;
  readonly budgetClass?: string;
  readonly exits?: readonly (readonly [layer: number, tokens: number])[];
  readonly serviceClass?: ServiceClass;
  readonly predictedMs?: number;
};

/** By default ten tokens at full depth inside a guaranteed budget of 1 s: the first at 100 ms, the last at 500 ms. */
function outcome(known: Known = {}): Outcome {
  const {
    arrivedAt = 0,
    budgetClass = 'tight',
    serviceClass = 'guaranteed',
    predictedMs = 500,
    exits,
    ...rest
  } = known;
  const path = exits ?? [[30, 10]];
  const admission: Admission = {
    ...{ kind: 'admit', exit: 30, reason: 'deepest', serviceClass },
    ...{ expectedTokens: 10, expectedTokensP90: 10, probability: 1, guaranteedTokens: 10, exitIndex: 4 },
    ...{ predictedTtftMs: 100, predictedTpotMs: 40, predictedMs },
    ...{ predictedP10Ms: 0.8 * predictedMs, predictedP90Ms: 1.2 * predictedMs },
  };
  return {
    request: {
      ...{ id: 'r', arrivedAt, promptLength: 20, lengths: shape.exits.map(() => 10), maxTokens: 10, budgetClass },
      ...{ minExit: null, maxExit: null, isExactLength: true, lengthGroup: { kind: 'chat', key: null } },
      budget: { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'continue' },
    },
    admission: rest.reason === 'rejected' ? { kind: 'reject', leastFeasibleMs: 2000 } : admission,
    ...{ firstTokenAt: arrivedAt + 100, endedAt: arrivedAt + 500, tokens: 10, reason: 'length' },
    ...{ path: path.map(([exit, tokens]) => ({ exit, tokens })), preemptions: 0 },
    ...rest,
  };
}

void t.test('the report has attainment, goodput and depth of all requests and of each class', async (t) => {
  const report = reportOf(
    [
      outcome(),
      outcome({ arrivedAt: 500, endedAt: 1501, exits: [[10, 10]], budgetClass: 'loose' }),
      outcome({
        arrivedAt: 1500,
        reason: 'deadline',
        tokens: 5,
        exits: [[10, 5]],
        budgetClass: 'loose',
        serviceClass: 'best_effort',
      }),
      outcome({ arrivedAt: 1500, reason: 'rejected', firstTokenAt: null, endedAt: 1500, tokens: 0, exits: [] }),
    ],
    shape,
  );
  t.match(report, {
    ...{ requests: 4, seconds: 2, attainment: 0.25, guaranteed: 2, kept: 0.5, goodput: 0.5, tokensPerSecond: 12.5 },
    exits: { 10: 0.6, 30: 0.4 },
    ...{ meanExit: 18, ttftMs: { p50: 100, p99: 100 }, errors: { rejected: 1 } },
    outcomes: { whole: 1, late: 1, cut: 1, refused: 1 },
    classes: [
      { name: 'loose', requests: 2, attainment: 0, guaranteed: 1, kept: 0, failed: 0, cut: 1 },
      { name: 'tight', requests: 2, attainment: 0.5, guaranteed: 1, kept: 1, failed: 1 },
    ],
  });
  const quality = (layer: number): number => shape.exits.find((exit) => exit.layer === layer)?.quality ?? 0;
  t.equal(report.meanQuality.toFixed(6), (0.6 * quality(10) + 0.4 * quality(30)).toFixed(6));
});

void t.test('the prediction error is a median, and an empty run has zero seconds', async (t) => {
  const report = reportOf(
    [400, 500, 1000].map((predictedMs) => outcome({ predictedMs })),
    shape,
  );
  t.equal(report.predictionError?.total.p50.toFixed(6), '0.200000');
  // Intervals of 320 to 480 ms, 400 to 600 ms, and 800 to 1200 ms.
  t.equal(report.insideInterval?.toFixed(6), '0.333333');
  t.match(reportOf([], shape), {
    requests: 0,
    seconds: 0,
    attainment: 1,
    goodput: 0,
    tokensPerSecond: 0,
    meanExit: null,
  });
});
