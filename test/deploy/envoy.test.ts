/** Envoy with the file of deploy/ before two replicas: deadlines, and settings that do harm. */
import t, { type Test } from 'tap';
import { childrenOf } from '../../bench/processes.js';
import { missing, tinyModel } from './helper.js';
import { until } from '../support/until.js';
import type { Replica } from './pool.js';
import { isHealthy, type Pool, post, startBefore, startReplicas } from './pool.js';

const skip = missing('envoy');
const model = skip === false ? tinyModel(t.testdir({}), 16_384) : '';
const long = { prompt: 'Count: one, two,', max_tokens: 16_000, ignore_eos: true };

interface Answer {
  readonly sortie: { readonly budget_ms?: number; readonly actual_ms: number };
}

function signal({ pid }: Replica, name: 'SIGSTOP' | 'SIGCONT'): void {
  for (const each of [pid, ...childrenOf(pid)]) process.kill(each, name);
}

async function leavesStopped(t: Test, pool: Pool): Promise<void> {
  const [, b] = pool.replicas;
  signal(b, 'SIGSTOP');
  t.teardown(() => {
    signal(b, 'SIGCONT');
  });
  const headers = { 'x-latency-budget-ms': '3000', 'x-budget-on-miss': 'truncate' };
  // By sessions, both replicas get requests whatever their load.
  const ask = async (_: unknown, i: number): Promise<number> => {
    const own = { ...headers, 'x-session-id': `session ${i}` };
    const response = await post(pool.url, { ...long, max_tokens: 20 }, own);
    await response.text();
    return response.status;
  };
  const start = performance.now();
  // They come before the next check fails.
  const first = await Promise.all(Array.from({ length: 8 }, ask));
  const ms = performance.now() - start;
  t.ok(first.includes(504) && first.every((status) => status === 200 || status === 504), first.join(' '));
  t.ok(ms > 7500 && ms < 12_500, `${ms} ms: the time-out is the budget and 5 s`);
  t.same(await Promise.all(Array.from({ length: 8 }, ask)), new Array(8).fill(200), 'it is out');
  signal(b, 'SIGCONT');
  await until('back', () => isHealthy(pool, b));
}

t.setTimeout(240_000);
void t.test('Envoy', { skip }, async (t) => {
  const options = ['--max-running', '8', '--keep-alive', '2'];
  const replicas = await startReplicas(t, model, options);
  const pool = await startBefore(t, replicas);
  /** A pool with another setting. */
  const withSetting = (t: Test, from: string, to: string): Promise<Pool> =>
    startBefore(t, replicas, (text) => {
      if (!text.includes(from)) throw new Error(`no ${from} in the file`);
      return text.replaceAll(from, to);
    });
  await t.test('the id of the client passes', async (t) => {
    const response = await post(pool.url, { prompt: 'Hello', max_tokens: 1 }, { 'x-request-id': 'own' });
    await response.text();
    t.equal(response.headers.get('x-request-id'), 'own');
    t.notOk(response.headers.has('x-envoy-expected-rq-timeout-ms'));
  });
  await t.test('a stopped replica costs a time-out after the budget, and is left', (t) => leavesStopped(t, pool));

  await t.test("the earlier of Envoy's time-out and the client's budget is the deadline", async (t) => {
    const { url } = await withSetting(t, 'timeout: 0s', 'timeout: 6s');
    const ask = async (headers: Record<string, string>): Promise<Answer> =>
      (await (await post(url, { ...long, sortie: { budget_on_miss: 'truncate' } }, headers)).json()) as Answer;
    const both = await Promise.all([{}, { 'x-latency-budget-ms': '60000' }].map(ask));
    for (const { sortie } of both) {
      t.ok(
        sortie.budget_ms !== undefined && sortie.budget_ms > 5000 && sortie.budget_ms < 6500,
        `${sortie.budget_ms} ms`,
      );
      t.ok(sortie.actual_ms < 6100, `${sortie.actual_ms} ms: the answer ends before Envoy would cut it`);
    }
    t.equal((await ask({ 'x-latency-budget-ms': '700' })).sortie.budget_ms, 700);
  });
});
