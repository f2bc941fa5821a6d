/**
 * A replica that stops for two seconds again and again, behind HAProxy: attainment of the pair by open connections
 * alone, and with the predicted wait of each replica. Then a replica that stops for good.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { childrenOf } from '../../bench/processes.js';
import { tinyModel } from './helper.js';
import { haproxyServer, missing, type Pool, post, type Replica, startPool } from './pool.js';
import { until } from '../support/until.js';

const STOP_MS = 2000;
const STOPS = 2;
const GAP_MS = 100;
const BUDGET_MS = 1000;
/** The time-out of deploy/haproxy for a request with `truncate`, ms beyond its budget. */
const TIMEOUT_MS = 5000;
const body = { prompt: 'Count: one, two,', max_tokens: 10, ignore_eos: true };

const model = tinyModel(t.testdir({}));

function signal({ pid }: Replica, name: 'SIGSTOP' | 'SIGCONT', what: 'engine' | 'replica'): void {
  for (const each of what === 'engine' ? childrenOf(pid) : [pid, ...childrenOf(pid)]) process.kill(each, name);
}

interface Answer {
  readonly status: number;
  readonly met: boolean;
  readonly ms: number;
}

async function ask({ url }: Pool, headers: Record<string, string> = {}): Promise<Answer> {
  const start = performance.now();
  const response = await post(url, body, { 'x-latency-budget-ms': String(BUDGET_MS), ...headers });
  await response.text();
  const ms = performance.now() - start;
  return { status: response.status, met: response.status === 200 && ms <= BUDGET_MS, ms };
}

interface Slowed {
  readonly answers: readonly Answer[];
  /** Requests that came while the engine was stopped, and those of them that HAProxy sent there. */
  readonly sent: number;
  readonly toStopped: number;
}

/** Requests at a fixed rate while the engine of the second replica stops and goes on. */
async function whileSlowed(t: Test, pool: Pool): Promise<Slowed> {
  const [, b] = pool.replicas;
  const sessions = async (): Promise<[number, number]> => [
    (await haproxyServer(pool, 'a'))[0],
    (await haproxyServer(pool, 'b'))[0],
  ];
  let [sent, toStopped] = [0, 0];
  t.teardown(() => {
    if (b.process.exitCode === null) signal(b, 'SIGCONT', 'engine');
  });
  const over = new AbortController();
  const answers: Promise<Answer>[] = [];
  const sending = (async () => {
    while (!over.signal.aborted) {
      answers.push(ask(pool));
      await sleep(GAP_MS);
    }
  })();
  for (let stop = 0; stop < STOPS; stop++) {
    await sleep(1000);
    const before = await sessions();
    signal(b, 'SIGSTOP', 'engine');
    await sleep(STOP_MS);
    const after = await sessions();
    signal(b, 'SIGCONT', 'engine');
    toStopped += after[1] - before[1];
    sent += after[0] + after[1] - before[0] - before[1];
  }
  await sleep(1000);
  over.abort();
  await sending;
  return { answers: await Promise.all(answers), sent, toStopped };
}

const attainment = (answers: readonly Answer[]): number => answers.filter(({ met }) => met).length / answers.length;

const skip = missing('haproxy');
async function takesFew(t: Test, pool: Pool): Promise<void> {
  const { answers, sent, toStopped } = await whileSlowed(t, pool);
  t.ok(answers.every(({ status }) => status === 200));
  const longest = Math.max(...answers.map(({ ms }) => ms));
  t.ok(longest < STOP_MS + TIMEOUT_MS, `the longest wait is ${longest} ms`);
  t.ok(sent > 10 && toStopped < 0.4 * sent, `${toStopped} of ${sent}; a balancer by turns sends half of them`);
  const share = `attainment ${attainment(answers).toFixed(3)} of ${answers.length} requests`;
  t.comment(`${share}, ${toStopped} of ${sent} to the stopped engine`);
}

void t.test('by predicted wait, a replica that stops again and again takes few requests', { skip }, async (t) =>
  takesFew(t, await startPool(t, 'haproxy', model, ['--load-header', 'on'])),
);

void t.test('by connections', { skip }, async (t) => {
  const pool = await startPool(t, 'haproxy', model);
  await t.test('a replica that stops again and again takes few requests', (t) => takesFew(t, pool));
  await t.test('no request waits on a stopped replica for longer than the time-out of its budget', async (t) => {
    const [, b] = pool.replicas;
    signal(b, 'SIGSTOP', 'replica');
    t.teardown(() => {
      signal(b, 'SIGCONT', 'replica');
    });
    // They come before the next check fails.
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(pool, { 'x-budget-on-miss': 'truncate' })));
    t.same(answers.map(({ status }) => status).sort(), [200, 200, 200, 200, 504, 504, 504, 504]);
    const longest = Math.max(...answers.map(({ ms }) => ms));
    t.ok(longest >= BUDGET_MS + TIMEOUT_MS && longest < BUDGET_MS + TIMEOUT_MS + 3000, `${longest} ms`);
    t.equal((await haproxyServer(pool, 'b'))[1], 'DOWN');
    for (let i = 0; i < 4; i++) t.equal((await ask(pool)).status, 200);
    signal(b, 'SIGCONT', 'replica');
    await until('back', async () => (await haproxyServer(pool, 'b'))[1] === 'UP');
  });
});
