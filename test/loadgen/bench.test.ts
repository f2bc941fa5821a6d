/** `sortie bench` against a server without any field of Sortie, and against the gateway with the fake engine. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { serverAt } from '../../bench/remote/server.js';
import { type Answered, ask } from '../../bench/loadgen/ask.js';
import { parseBudgets } from '../../bench/loadgen/budgets.js';
import { benchCommand, type BenchResult } from '../../bench/loadgen/bench-command.js';
import { benchDefaults, type BenchOptions } from '../../bench/loadgen/bench-options.js';
import { openLoop } from '../../bench/loadgen/run.js';
import { closedUrl, jsonAnswer, plainServer } from '../fakes/upstream.js';
import { build, says } from '../fakes/server.js';
import { until } from '../support/until.js';

async function bench(
  options: Partial<BenchOptions> & { readonly url: string },
  signal = new AbortController().signal,
): Promise<{ result: BenchResult; lines: string[] }> {
  const lines: string[] = [];
  const say = (line: string): void => void lines.push(line);
  const result = await benchCommand({ ...benchDefaults, ...options }, { say, terminal: null, signal });
  return { result, lines };
}

const file = (t: Test, name: string): string => join(t.testdir({}), name);

void t.test('any server: attainment, times, JSON and plot, without a word about budgets to the server', async (t) => {
  const { url, requests } = await plainServer(t, () => ({ parts: ['a', 'b', 'c'], pace: 5, usage: 5 }));
  const out = file(t, 'bench.json');
  const plot = out.replace('.json', '.svg');
  const budgets = parseBudgets('fast=1,slow=20000');
  const { result, lines } = await bench({ url, budgets, rates: [40, 80], requests: 20, out, plot });
  t.match(result, { model: 'plain-7b', isSortie: false, isInterrupted: false });
  t.equal(requests.length, 41, 'one request warms up');
  const stated = requests.flatMap(({ headers }) => Object.keys(headers)).filter((name) => /budget|slo|exit/.test(name));
  t.same(stated, []);
  t.ok(requests.every(({ body }) => body.max_tokens === 512));
  const [first, second] = result.runs;
  t.same([first?.rate, second?.rate, first?.requests.length], [40, 80, 20]);
  t.same(
    first?.requests.map(({ budgetClass, atMs }) => [budgetClass, Math.round(atMs)]),
    second?.requests.map(({ budgetClass, atMs }) => [budgetClass, Math.round(2 * atMs)]),
    'the same requests at each rate',
  );
  for (const { summary } of result.runs) {
    const found = summary.classes.map(({ name, attainment, failed }) => [name, attainment, failed]);
    t.same(found, [
      ['fast', 0, 0],
      ['slow', 1, 0],
    ]);
    t.ok(summary.goodput > 0 && summary.tokensPerSecond > summary.goodput);
    t.ok((summary.ttftMs?.p50 ?? 0) >= 4 && (summary.totalMs?.p50 ?? 0) >= 14);
    t.same([summary.predictionError, summary.insideInterval, summary.exits, summary.errors], [null, null, null, {}]);
    t.same([summary.landed, summary.reasons], [null, null]);
  }
  t.ok((first?.requests[0]?.tpotMs ?? 0) >= 2, 'two parts of 5 ms over four tokens after the first');
  t.match(JSON.parse(await readFile(out, 'utf8')), { url: `${url}/v1`, runs: [{ rate: 40 }, { rate: 80 }] });
  const svg = await readFile(plot, 'utf8');
  for (const text of ['requests in budget against load', 'fast (1 ms)', 'goodput']) t.match(svg, text);
  t.match(lines[0], /plain-7b; requests do not state their budget/);
  t.match(lines.join('\n'), /40 requests\/s: \d.*in budget.*\n.*class.*budget.*TTFT p50.*\n.*fast +1 ms/);
});

void t.test('Sortie: budgets are stated, and predictions and depth are reported', async (t) => {
  const plan = { predictedMs: 40, predictedTtftMs: 20, predictedP10Ms: 1, predictedP90Ms: 20_000 };
  const script = says('Paris is the capital.', { pace: 5, exits: [10, 30], plan });
  const { url, engine } = await build(t, script);
  const budgets = parseBudgets('page=5000,chat=ttft:4000+tpot:500.5,batch=none');
  const { result, lines } = await bench({ url, budgets, requests: 30, clients: [3] });
  t.match(result, { model: 'fake', isSortie: true });
  const [, ...asked] = engine.requests;
  const stated = new Set(asked.map(({ depth }) => JSON.stringify(depth.budget)));
  t.same([...stated].sort(), [
    'null',
    '{"totalMs":5000,"ttftMs":null,"tpotMs":null,"onMiss":"land"}',
    '{"totalMs":null,"ttftMs":4000,"tpotMs":500.5,"onMiss":"continue"}',
  ]);
  const summary = result.runs[0]?.summary;
  t.match(summary, { attainment: 1, failed: 0, insideInterval: 1 });
  t.ok((summary?.predictionError?.total.p50 ?? 9) < 1 && summary?.predictionError?.ttft !== null);
  t.ok((summary?.exits?.['10'] ?? 0) > 0.1 && (summary?.meanExit ?? 0) > 20);
  t.match(
    lines.join('\n'),
    /mean exit layer 2\d\..*\n.*reasons of the depth at the start \(deepest: 100.0%\)\n.*prediction error p50 .* 100\.0% inside the predicted interval/,
  );
  const silent = await bench({ url, budgets, requests: 4, clients: [4], sendBudgets: false });
  const [run] = silent.result.runs;
  t.equal(run?.summary.classes.length, new Set(run?.requests.map(({ budgetClass }) => budgetClass)).size);
  t.ok(engine.requests.slice(-4).every(({ depth }) => depth.budget === null));
});

void t.test('times count from the scheduled arrival, although the client itself is late', async (t) => {
  const { url } = await plainServer(t, () => ({ parts: ['a'] }));
  const server = serverAt(url, null);
  const send = (job: number, scheduledAt: number): Promise<Answered> => {
    // The client's own event loop stands still, as on a machine that is too small for the bench.
    if (job === 0) for (const end = performance.now() + 300; performance.now() < end;);
    return ask(server, 'm', { path: '/completions', body: { prompt: 'a' } }, { scheduledAt });
  };
  const [first, second] = await openLoop(send, [0, 1], [0, 10]);
  t.equal(second?.atMs, 10);
  for (const answer of [first?.answer, second?.answer]) {
    t.ok((answer?.lagMs ?? 0) > 250, `late by ${answer?.lagMs} ms`);
    t.ok((answer?.ttftMs ?? 0) >= (answer?.lagMs ?? 0) && (answer?.totalMs ?? 0) >= (answer?.ttftMs ?? 0));
  }
});

void t.test('failures count by kind and as missed; an answer at a limit of the server is cut', async (t) => {
  const overload = jsonAnswer(429, { error: { message: 'Full.', code: 'queue_full' } });
  const { url } = await plainServer(t, (index) => {
    if (index === 1 || index === 2) return overload;
    if (index === 3) return { parts: ['a'], isBroken: true };
    if (index === 4) return { parts: ['a', 'b'], finish: 'length' };
    return { parts: ['a'], usage: null, pace: index === 5 ? 60_000 : 0 };
  });
  const budgets = parseBudgets('any=none');
  const { result, lines } = await bench({ url, requests: 8, clients: [1], timeout: 2, budgets });
  const summary = result.runs[0]?.summary;
  t.match(summary, { requests: 8, failed: 4, cut: 1, attainment: 3 / 8 });
  t.same(summary?.errors, { '429 queue_full': 2, 'connection lost': 1, timeout: 1 });
  t.match(lines.join('\n'), /failed: 2 with 429 queue_full[^]*cut: 1 answers/);
  const counts = result.runs[0]?.requests.map(({ tokens }) => tokens);
  t.same(counts, [0, 0, 1, 2, 0, 1, 1, 1], 'a server without usage is counted by events');
});

void t.test('a log gives arrivals and budgets, and with --lengths trace the lengths', async (t) => {
  const line = (second: number, sortie: object): string =>
    JSON.stringify({ msg: 'request', time: 1000 * second, ms: 10, prompt_tokens: 20, completion_tokens: 9, sortie });
  const dir = t.testdir({
    'sortie.log': [line(1, { budget_ms: 30_000 }), line(2, { slo_ttft_ms: 0.001 }), line(3, {})].join('\n'),
  });
  const { url, requests } = await plainServer(t, () => ({ parts: ['a'], usage: 9, finish: 'length' }));
  const trace = join(dir, 'sortie.log');
  const { result } = await bench({ url, trace, speeds: [20], lengths: 'trace' });
  const [run] = result.runs;
  const got = run?.requests.map(({ budgetClass, atMs, isMet }) => [budgetClass, atMs, isMet]);
  t.same(got, [
    ['logged', 0, true],
    ['logged', 50, false],
    ['none', 100, true],
  ]);
  for (const { body } of requests) {
    t.match(body, { max_tokens: 9, ignore_eos: true });
    t.equal(body.messages?.[0]?.content.split(' ').length, 20);
  }
  await t.rejects(bench({ url, lengths: 'trace' }), { message: '--lengths trace needs --trace FILE' });
  await t.rejects(bench({ url, trace: join(dir, 'none') }), { message: /^--trace .*none: ENOENT/ });
});

void t.test('an interrupt ends the bench and keeps the answers so far', async (t) => {
  const { url, left, requests } = await plainServer(t, (index) => ({ parts: ['a'], pace: index < 4 ? 0 : 60_000 }));
  const stop = new AbortController();
  const out = file(t, 'bench.json');
  const running = bench({ url, requests: 50, rates: [100], out }, stop.signal);
  await until('later requests', () => requests.length >= 12);
  await sleep(500);
  stop.abort();
  const { result } = await running;
  t.equal(result.isInterrupted, true);
  t.equal(result.runs[0]?.requests.length, 3, 'the warm-up and three answers end; others are cancelled');
  t.match(JSON.parse(await readFile(out, 'utf8')), { isInterrupted: true });
  t.ok(left.count > 0);
});

void t.test('a bench that cannot begin names the reason', async (t) => {
  const unknown = { error: { message: 'No model x.', code: 'model_not_found' } };
  const { url } = await plainServer(t, () => jsonAnswer(404, unknown));
  await t.rejects(bench({ url, model: 'x' }), { message: 'the server fails the first request: 404: No model x.' });
  await t.rejects(bench({ url: await closedUrl() }), { message: /connection refused/ });
  await t.rejects(bench({ url, out: t.testdir({}) }), { message: /^--out must be a file that can be written/ });
});

void t.test('budget classes', async (t) => {
  t.same(parseBudgets('a=100, chat=ttft:300+tpot:50.5,batch=none'), [
    { name: 'a', budget: { totalMs: 100, ttftMs: null, tpotMs: null } },
    { name: 'chat', budget: { totalMs: null, ttftMs: 300, tpotMs: 50.5 } },
    { name: 'batch', budget: { totalMs: null, ttftMs: null, tpotMs: null } },
  ]);
  for (const text of ['', 'a', 'a=', 'a=0', 'a=-1', 'a=1,a=2', 'a=1=2', 'a=size:3', 'a=1+', 'a=NaN', 'a b=1'])
    t.throws(() => parseBudgets(text), { message: /^must be NAME=BUDGET separated by commas/ }, text);
});
