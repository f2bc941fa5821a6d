import t from 'tap';
import { TraceError, parseTrace } from '../../bench/loadgen/trace.js';

const header = 'TIMESTAMP,ContextTokens,GeneratedTokens';

void t.test('reads the public format with either line ending, in order of time', (t) => {
  const text = `${header}\r\n2023-11-16 18:15:50.5000000,396,109\r\n2023-11-16 18:15:46.2500000,374,44\r\n`;
  t.same(parseTrace(text), [
    { atMs: 0, promptTokens: 374, outputTokens: 44 },
    { atMs: 4250, promptTokens: 396, outputTokens: 109 },
  ]);
  t.end();
});

void t.test('an entry of a log has its budget, null without one, and none where the log has no report', (t) => {
  const line = (sortie?: object): string =>
    JSON.stringify({ msg: 'request', time: 10, ms: 5, prompt_tokens: 3, completion_tokens: 4, sortie });
  const log = [
    line({ budget_ms: 500, met: true }),
    line({ slo_ttft_ms: 300, slo_tpot_ms: 20.5 }),
    line({}),
    line(),
  ].join('\n');
  const entry = { atMs: 0, promptTokens: 3, outputTokens: 4 };
  t.strictSame(parseTrace(log), [
    { ...entry, budget: { totalMs: 500, ttftMs: null, tpotMs: null } },
    { ...entry, budget: { totalMs: null, ttftMs: 300, tpotMs: 20.5 } },
    { ...entry, budget: null },
    entry,
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
