/** Metrics and traces of requests to an upstream. */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { collect, tracingTo, valuesOf } from '../fakes/collector.js';
import { build, says, type TestServer } from '../fakes/server.js';
import {
  answers,
  begin,
  chunk,
  event,
  starts,
  scriptedUpstream,
  upstream,
  type UpstreamScript,
  breaks,
  fails,
} from '../fakes/upstream.js';
import { until } from '../support/until.js';
import { both, ask } from './told.js';

const messages = [{ role: 'user', content: 'Where is Paris?' }];

type Metric = Awaited<ReturnType<TestServer['context']['series']['upstreamTries']['get']>>;

/** The values of a series by the texts of its labels, without zeros. */
async function values(metric: { get(): Promise<Metric> }, ...labels: readonly string[]): Promise<object> {
  const rows = (await metric.get()).values.filter(({ value }) => value > 0);
  const nameOf = (of: Partial<Record<string, string | number>>) => labels.map((label) => of[label]).join(' ');
  return Object.fromEntries(rows.map((row) => [nameOf(row.labels), row.value]));
}

const tries = ({ context }: TestServer) => values(context.series.upstreamTries, 'upstream', 'status', 'end');
const outcomes = ({ context }: TestServer) => values(context.series.answers, 'upstream', 'outcome');

/** A part of the histogram of seconds past the deadline. */
async function late({ context }: TestServer, part: 'count' | 'sum'): Promise<number | undefined> {
  const { values } = await context.series.upstreamLate.get();
  return values.find(({ metricName }) => metricName?.endsWith(part))?.value;
}

const stalls: UpstreamScript = (exchange) => starts(exchange, 'One is here. Two');

const LONG_MS = 60_000;
const SHORT_MS = 400;
const lands = { sortie: { commit: 'sentence' } };
const waits = { sortie: { budget_on_miss: 'continue' } };
/** Its name, the upstream, the budget in ms, the end of the try, the outcome, and fields of the request. */
const CASES: readonly [string, UpstreamScript, number | null, string, string | null, object?][] = [
  ['whole in time', answers('Paris.'), LONG_MS, '200 whole', 'whole'],
  ['landed', stalls, SHORT_MS, '200 deadline', 'landed', lands],
  ['cut', stalls, SHORT_MS, '200 deadline', 'cut'],
  ['no response', () => undefined, SHORT_MS, 'none deadline', 'empty'],
  ['late, and wanted', answers('Paris.', 50), 1, '200 whole', 'late', waits],
  ['rejected', fails(400), LONG_MS, '400 rejected', null],
  ['refused', fails(429), LONG_MS, '429 failed', 'refused'],
  ['redirected', fails(302), null, 'none failed', 'empty'],
  ['broken in a sentence', breaks('One is ', null), null, '200 failed', 'cut'],
];

for (const [name, script, budgetMs, ended, outcome, body] of CASES)
  void t.test(`an answer is counted once: ${name}`, async (t) => {
    const { here } = await both(t, script);
    const asked = { model: 'big', messages, stream: true, ...body };
    const headers: Record<string, string> = budgetMs === null ? {} : { 'x-latency-budget-ms': String(budgetMs) };
    await (await here.post('/v1/chat/completions', asked, headers)).text();
    t.same(await tries(here), { [`big ${ended}`]: 1 });
    await until('the end of the response', () => here.app.responses.size === 0);
    const hasDeadline = budgetMs !== null && outcome !== 'late';
    t.equal(await late(here, 'count'), hasDeadline ? 1 : 0, 'the last byte of an answer with a deadline');
    t.equal(await late(here, 'sum'), 0, 'in time');
    t.same(await outcomes(here), outcome === null ? {} : { [`big ${outcome}`]: 1 });
  });

void t.test('a client that leaves is an abort, and no answer', async (t) => {
  const { there, here } = await both(t, stalls);
  const leaving = new AbortController();
  const asked = { model: 'big', messages, stream: true };
  const response = await here.post('/v1/chat/completions', asked, { 'x-latency-budget-ms': '60000' }, leaving.signal);
  await response.body?.getReader().read();
  leaving.abort();
  await until('the request ends', () => there.exchanges[0]?.closedAt !== null);
  t.same(await tries(here), { 'big 200 cancelled': 1 });
  t.same(await outcomes(here), {});
  t.equal(await late(here, 'count'), 0);
});

void t.test('time of the first content', async (t) => {
  const { here } = await both(t, async (exchange) => {
    begin(exchange);
    exchange.response.write(event(chunk({ role: 'assistant' })));
    await delay(300);
    exchange.response.end(event(chunk({ content: 'One two.' })) + event(chunk({}, 'stop')) + event('[DONE]'));
  });
  await ask(here, {}, LONG_MS);
  const rows = (await here.context.series.upstreamTtft.get()).values;
  const of = (part: string) => rows.find(({ metricName }) => metricName?.endsWith(part))?.value ?? NaN;
  t.equal(of('_count'), 1);
  t.equal(of('_sum'), 0.3);
});

void t.test('a try has a client span below the span of its request, and the upstream gets its trace', async (t) => {
  const collector = await collect(t);
  const tracing = await tracingTo(collector.url);
  const there = await scriptedUpstream(t, answers('Paris.'));
  const here = await build(t, says('Local.'), { tracing, upstreams: [{ ...upstream, url: there.url }] });
  await ask(here, { stream: true }, LONG_MS);
  there.script = fails(500);
  await here.post('/v1/chat/completions', { model: 'big', messages });
  await until('responses end', () => here.app.responses.size === 0);
  await tracing.shutdown();
  const spans = collector.spans();
  const calls = spans.filter(({ name }) => name === 'chat vendor/big-1');
  t.equal(calls.length, 2);
  const roots = spans.filter(({ name }) => name === 'POST /v1/chat/completions');
  for (const [index, call] of calls.entries()) {
    t.equal(call.kind, 3, 'client');
    t.ok(roots.some(({ spanId }) => spanId === call.parentSpanId));
    t.equal(there.exchanges[index]?.headers.traceparent, `00-${call.traceId}-${call.spanId}-01`);
  }
  t.match(valuesOf(calls[0]?.attributes ?? []), {
    'gen_ai.request.model': 'vendor/big-1',
    'server.address': '127.0.0.1',
    'server.port': Number(there.url.port),
    'http.response.status_code': 200,
    'sortie.budget_ms': LONG_MS,
    'sortie.outcome': 'whole',
    'sortie.upstream.end': 'whole',
  });
  t.match(valuesOf(calls[1]?.attributes ?? []), { 'error.type': '500', 'sortie.upstream.end': 'failed' });
  t.equal(calls[1]?.status?.code, 2, 'an error');
  t.notMatch(collector.posts.map(({ body }) => body.toString()).join(''), /Paris/, 'no text');
});
