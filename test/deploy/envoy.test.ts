/** Envoy with the file of deploy/ before two replicas: shares by load, deadlines, and settings that do harm. */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { freePorts } from '../../bench/ports.js';
import { childrenOf } from '../../bench/processes.js';
import { missing, tinyModel } from './helper.js';
import { until } from '../support/until.js';
import { isHealthy, type Pool, post, Replica, startBefore, startReplicas } from './pool.js';

const skip = missing('envoy');
const model = skip === false ? tinyModel(t.testdir({}), 16_384) : '';
const long = { prompt: 'Count: one, two,', max_tokens: 16_000, ignore_eos: true };

interface Answer {
  readonly sortie: { readonly budget_ms?: number; readonly actual_ms: number };
}

function signal({ pid }: Replica, name: 'SIGSTOP' | 'SIGCONT', what: 'engine' | 'replica'): void {
  for (const each of what === 'engine' ? childrenOf(pid) : [pid, ...childrenOf(pid)]) process.kill(each, name);
}

/** Completions that a replica has logged. */
const served = (replica: Replica): number =>
  replica.requests().filter(({ route }) => route === '/v1/completions').length;

/** Lets the engine of a replica run a third of the time. @returns a function that ends this */
function slowDown(t: Test, replica: Replica): () => Promise<void> {
  const over = new AbortController();
  const done = (async () => {
    while (!over.signal.aborted) {
      signal(replica, 'SIGSTOP', 'engine');
      await sleep(40);
      signal(replica, 'SIGCONT', 'engine');
      await sleep(20);
    }
  })();
  const end = async (): Promise<void> => {
    over.abort();
    await done;
  };
  t.teardown(end);
  return end;
}

async function sharesByLoad(t: Test, pool: Pool): Promise<void> {
  const [a, b] = pool.replicas;
  const end = slowDown(t, b);
  let isOver = false;
  const clients = Array.from({ length: 8 }, async () => {
    while (!isOver) await (await post(pool.url, { ...long, max_tokens: 60 })).text();
  });
  const before = [served(a), served(b)] as const;
  await sleep(10_000);
  isOver = true;
  await Promise.all(clients);
  await end();
  const [fast, slow] = [served(a) - before[0], served(b) - before[1]];
  t.ok(fast > 1.2 * slow && slow > 0, `${fast} requests at the fast replica, ${slow} at the slow one`);
}

async function leavesStopped(t: Test, pool: Pool): Promise<void> {
  const [, b] = pool.replicas;
  signal(b, 'SIGSTOP', 'replica');
  t.teardown(() => {
    signal(b, 'SIGCONT', 'replica');
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
  signal(b, 'SIGCONT', 'replica');
  await until('back', () => isHealthy(pool, b));
}

/** The changes that the file names for a third replica. */
async function withThird(t: Test, [a, b]: Pool['replicas'], options: readonly string[]): Promise<void> {
  const [port = 0, opsPort = 0] = await freePorts(2);
  const c = new Replica(t, model, port, opsPort, options);
  await c.start();
  const endpoint = `- endpoint:
                  address: { socket_address: { address: 127.0.0.1, port_value: ${port} } }
                  health_check_config: { port_value: ${opsPort} }
              `;
  const pool = await startBefore(t, [a, b], (text) =>
    text.replace('lb_endpoints:\n              ', `$&${endpoint}`).replace('num_retries: 1', 'num_retries: 2'),
  );
  await until('all', async () => (await Promise.all([a, b, c].map((each) => isHealthy(pool, each)))).every(Boolean));
  const headers = { 'x-latency-budget-ms': '1', 'x-budget-on-miss': 'reject', 'x-request-id': 'third' };
  const rejected = await post(pool.url, { prompt: 'Hello', max_tokens: 1 }, headers);
  t.equal(rejected.status, 503);
  const attempts = (): number[] =>
    [a, b, c].map((each) => each.requests().filter(({ reqId }) => reqId === 'third').length);
  await until('logged', async () => attempts().reduce((sum, count) => sum + count, 0) >= 3);
  t.same(attempts(), [1, 1, 1], 'a rejected budget is tried once at each replica');

  const before = [a, b].map(served);
  let sent = 0;
  const statuses = await Promise.all(
    Array.from({ length: 90 }, async (_, i) => {
      if (i >= 60) await until('answers', async () => sent >= 30);
      const response = await post(pool.url, { ...long, max_tokens: 20 });
      await response.text();
      if (++sent === 30) c.process.kill('SIGKILL');
      return response.status;
    }),
  );
  t.same(statuses, new Array(90).fill(200), 'a killed one costs no request');
  // The killed process has not written its last log lines.
  const shares = [a, b].map((each, i) => served(each) - (before[i] ?? 0));
  t.ok(Math.min(...shares) > 0, `${shares.join(', ')} requests`);
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

  await t.test('two replicas of unequal speed share the work by their open requests', (t) => sharesByLoad(t, pool));
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

  await t.test('three replicas', (t) => withThird(t, replicas, options));
});
