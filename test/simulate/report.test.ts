/** What a simulated run came to, from outcomes that are known. */
import t from 'tap';
import type { Outcome } from '../../src/simulate/engine.js';
import { reportOf } from '../../src/simulate/report.js';
import { shape } from '../router/sample.js';

type Known = Partial<Pick<Outcome, 'reason' | 'firstTokenAt' | 'endedAt' | 'tokens'>> & {
  readonly arrivedAt?: number;
  readonly budgetClass?: string;
  readonly exits?: readonly (readonly [layer: number, tokens: number])[];
  readonly feasible?: boolean;
  readonly predictedMs?: number;
};

/** By default ten tokens at full depth within a budget of a second: the first after 100 ms, the last after 500. */
function outcome(known: Known = {}): Outcome {
  const { arrivedAt = 0, budgetClass = 'tight', feasible = true, predictedMs = 500, exits, ...rest } = known;
  const outlook = { forecastMs: predictedMs } as never;
  return {
    request: {
      ...{ id: 'r', arrivedAt, promptLength: 20, tokens: 10, maxTokens: 10, minExit: null, maxExit: null, budgetClass },
      budget: { totalMs: 1000, ttftMs: null, tpotMs: null, onMiss: 'continue' },
    },
    admission: {
      ...{ kind: 'admit', exit: 30, feasible, bound: true, outlook: { total: outlook, ttft: outlook } },
      prediction: { ttftMs: 100, tpotMs: 40, totalMs: predictedMs },
    },
    ...{ firstTokenAt: arrivedAt + 100, endedAt: arrivedAt + 500, tokens: 10, reason: 'length' },
    ...{ exits: new Map(exits ?? [[30, 10]]), replans: 0, preemptions: 0 },
    ...rest,
  };
}

void t.test('attainment, goodput and depth, of all and of each class', async (t) => {
  const report = reportOf(
    [
      outcome(),
      outcome({ arrivedAt: 500, endedAt: 1501, exits: [[10, 10]], budgetClass: 'loose' }),
      outcome({ arrivedAt: 1500, reason: 'deadline', exits: [[10, 5]], budgetClass: 'loose', feasible: false }),
      outcome({ arrivedAt: 1500, reason: 'refused', firstTokenAt: null, endedAt: 1500, exits: [], feasible: false }),
    ],
    shape,
  );
  t.match(report, {
    ...{ requests: 4, seconds: 2, attainment: 0.25, attainmentOfFeasible: 0.5, goodput: 0.5, tokensPerSecond: 12.5 },
    exits: { 10: 0.6, 30: 0.4 },
    meanDepth: 18,
    ttftMs: { p50: 100, p99: 100 },
    classes: [
      { name: 'loose', requests: 2, attainment: 0, feasible: 1, attainmentOfFeasible: 0, refused: 0 },
      { name: 'tight', requests: 2, attainment: 0.5, feasible: 1, attainmentOfFeasible: 1, refused: 1 },
    ],
  });
  const quality = (layer: number): number => shape.exits.find((exit) => exit.layer === layer)?.quality ?? 0;
  t.equal(report.meanQuality.toFixed(6), (0.6 * quality(10) + 0.4 * quality(30)).toFixed(6));
});

void t.test('how far predictions lay off is the median, and nothing is no time at all', async (t) => {
  const report = reportOf(
    [400, 500, 1000].map((predictedMs) => outcome({ predictedMs })),
    shape,
  );
  t.equal(report.predictionError.toFixed(6), '0.200000');
  t.match(reportOf([], shape), {
    requests: 0,
    seconds: 0,
    attainment: 1,
    goodput: 0,
    tokensPerSecond: 0,
    meanDepth: 0,
  });
});
