/** Summaries of known answers. */
import t from 'tap';
import type { Sent } from '../../bench/loadgen/run.js';
import { type Judged, summaryOf } from '../../bench/loadgen/summary.js';

type Known = Partial<Sent<Judged>['answer']> & { readonly atMs?: number; readonly budgetClass?: string };

/** By default ten tokens at full depth inside a guaranteed budget of 1 s: the first at 100 ms, the last at 500 ms. */
function sent({ atMs = 0, budgetClass = 'tight', ...known }: Known = {}): Sent<Judged> {
  const { predictedMs = 500, totalMs = 500 } = known;
  return {
    job: { budgetClass, budget: { totalMs: 1000, ttftMs: null, tpotMs: null }, maxTokens: 10 },
    atMs,
    answer: {
      ...{ ttftMs: 100, tpotMs: 40, lagMs: 0, tokens: 10, finishReason: 'stop', error: null, exits: { 30: 10 } },
      ...{ serviceClass: 'guaranteed', isLanded: false, predictedTtftMs: 100, actualMs: null, queueMs: null },
      predictedP10Ms: 0.8 * (predictedMs ?? NaN),
      predictedP90Ms: 1.2 * (predictedMs ?? NaN),
      ...known,
      predictedMs,
      totalMs,
    },
  };
}

void t.test('the summary has attainment, goodput and depth of all requests and of each class', async (t) => {
  const cut = { finishReason: 'length', tokens: 5, exits: { 10: 5 }, serviceClass: 'best_effort' } as const;
  const rejected = { error: { kind: '429 budget_infeasible', message: '' }, ttftMs: null, totalMs: 0, tokens: 0 };
  const summary = summaryOf([
    sent(),
    sent({ atMs: 500, totalMs: 1001, exits: { 10: 10 }, budgetClass: 'loose' }),
    sent({ atMs: 1500, ...cut, budgetClass: 'loose' }),
    sent({ atMs: 1500, ...rejected, exits: null, serviceClass: null }),
  ]);
  t.match(summary, {
    ...{ requests: 4, seconds: 2, attainment: 0.25, guaranteed: 2, kept: 0.5, goodput: 0.5, tokensPerSecond: 12.5 },
    exits: { 10: 0.6, 30: 0.4 },
    ...{ meanExit: 18, ttftMs: { p50: 100, p99: 100 }, errors: { '429 budget_infeasible': 1 } },
    outcomes: { whole: 1, late: 1, cut: 1, refused: 1 },
    classes: [
      { name: 'loose', requests: 2, attainment: 0, guaranteed: 1, kept: 0, failed: 0, cut: 1 },
      { name: 'tight', requests: 2, attainment: 0.5, guaranteed: 1, kept: 1, failed: 1 },
    ],
  });
});

void t.test('the prediction error is a median, and an empty run has zero seconds', async (t) => {
  const summary = summaryOf([400, 500, 1000].map((predictedMs) => sent({ predictedMs })));
  t.equal(summary.predictionError?.total.p50.toFixed(6), '0.200000');
  // Intervals of 320 to 480 ms, 400 to 600 ms, and 800 to 1200 ms.
  t.equal(summary.insideInterval?.toFixed(6), '0.333333');
  t.match(summaryOf([]), { requests: 0, seconds: 0, attainment: 1, goodput: 0, tokensPerSecond: 0, meanExit: null });
});
