/** Summaries of known answers. */
import t from 'tap';
import type { Sent } from '../../bench/loadgen/run.js';
import { type Judged, summaryOf } from '../../bench/loadgen/summary.js';
import { TraceError, parseTrace } from '../../bench/loadgen/trace.js';

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

const header = 'TIMESTAMP,ContextTokens,GeneratedTokens';

void t.test('reads the public format with either line ending, in order of time', (t) => {
  const text = `${header}\r\n2023-11-16 18:15:50.5000000,396,109\r\n2023-11-16 18:15:46.2500000,374,44\r\n`;
  t.same(parseTrace(text), [
    { atMs: 0, promptTokens: 374, outputTokens: 44 },
    { atMs: 4250, promptTokens: 396, outputTokens: 109 },
  ]);
  t.end();
});

void t.test('an error names the line and the rule', (t) => {
  t.throws(() => parseTrace('a,b,c\n'), new TraceError(`line 1 of the trace must be "${header}", not "a,b,c"`));
  t.throws(() => parseTrace(`${header}\n`), /at least one request/);
  t.throws(() => parseTrace(`${header}\n2023-11-16 18:15:46.1,12\n`), /line 2/);
  t.throws(() => parseTrace(`${header}\n2023-11-16 18:15:46.1,0,5\n`), /ContextTokens must be at least 1/);
  t.end();
});

void t.test('reads answered completions from the log of the server, at their arrival', (t) => {
  const answered = (time: number, ms: number, prompt: number, completion: number): string =>
    JSON.stringify({
      ...{ level: 30, time, pid: 1, method: 'POST', route: '/v1/completions', status: 200, ms },
      ...{ prompt_tokens: prompt, completion_tokens: completion, msg: 'request' },
    });
  const log = [
    '> sortie@0.1.0 start',
    answered(10_000, 2500, 30, 7),
    JSON.stringify({ level: 30, time: 10_100, route: '/v1/models', status: 200, ms: 3, msg: 'request' }),
    JSON.stringify({ level: 30, time: 10_200, msg: 'model loaded' }),
    answered(10_300, 200, 9, 3).replace('{', '{"cancelled":true,'),
    answered(10_500, 4000, 12, 64),
    '{"level":30,"ti',
  ].join('\n');
  t.same(parseTrace(log), [
    { atMs: 0, promptTokens: 12, outputTokens: 64 },
    { atMs: 1000, promptTokens: 30, outputTokens: 7 },
  ]);
  t.equal(parseTrace(`\uFEFF${answered(10_000, 2500, 30, 7)}\n`).length, 1, 'after a byte order mark');
  t.equal(parseTrace(`\uFEFF${header}\n2023-11-16 18:15:46,374,44\n`).length, 1, 'a CSV as well');
  t.throws(() => parseTrace('{"msg":"model loaded"}\n'), /at least one request/);
  // Impossible times are skipped: a simulation would wait for them for ever.
  const wrong = [answered(1e300, 1, 30, 7), answered(10_000, -1e300, 30, 7), answered(10_000, 1e300, 30, 7)];
  t.equal(parseTrace([...wrong, answered(10_000, 2500, 30, 7)].join('\n')).length, 1);
  t.end();
});
