/** A rolling restart of two replicas behind Envoy, with 40 requests in flight all the time. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { missing, tinyModel, engineBelow, inFlightAt } from './helper.js';
import { post, startPool, inFlight, isHealthy, type Pool, type Replica } from './pool.js';
import { until } from '../support/until.js';

const IN_FLIGHT = 40;
const TOKENS = 40;
const model = tinyModel(t.testdir({}));
/** Budgets of the requests in turn, ms. */
const BUDGETS = [null, 500, 2000, 10_000] as const;

/** One request. @returns a fault as a client sees it, or null for a complete answer */
async function ask(url: string, i: number): Promise<string | null> {
  const stream = i % 2 === 0;
  const budget = BUDGETS[(i >> 1) % BUDGETS.length] ?? null;
  const body = { prompt: `Count from ${i}:`, max_tokens: TOKENS, ignore_eos: true, stream };
  const withUsage = stream ? { ...body, stream_options: { include_usage: true } } : body;
  // Each answer goes on behind its budget, since this test asks for whole ones.
  const continued = { 'x-latency-budget-ms': String(budget), 'x-budget-on-miss': 'continue' };
  const headers = budget === null ? {} : continued;
  try {
    const response = await post(url, withUsage, headers);
    const text = await response.text();
    if (response.status !== 200) return `${response.status} ${text.slice(0, 200)}`;
    if (stream && !text.endsWith('data: [DONE]\n\n')) return `a stream without its end: ${text.slice(-100)}`;
    return text.includes(`"completion_tokens":${TOKENS}`) ? null : `an incomplete answer: ${text.slice(-300)}`;
  } catch (error) {
    return String(error);
  }
}

const skip = missing('envoy');
void t.test('no accepted request is lost, and no client sees an error', { skip }, async (t) => {
  const pool = await startPool(t, model, ['--max-queue', '1000', '--drain-timeout', '60']);
  let isOver = false;
  let [next, answers] = [0, 0];
  const faults: string[] = [];
  const pending = new Set<Promise<unknown>>();
  const clients = Array.from({ length: IN_FLIGHT }, async () => {
    while (!isOver) {
      const asked = ask(pool.url, next++);
      pending.add(asked);
      const fault = await asked;
      pending.delete(asked);
      if (fault === null) answers++;
      else faults.push(fault);
    }
  });
  // Every request in flight at that time has been answered at the end.
  const turn = () => Promise.all(pending);
  await turn();
  const before = pool.replicas.map(({ pid }) => pid);
  for (const replica of pool.replicas) {
    t.equal(await replica.stop(), 0, 'the drain ends with code 0');
    await replica.start();
    // Envoy checks twice a second, and sees the replica within this time on a machine with other work as well.
    await sleep(5000);
    // Behind a busy replica a retry of the drain can wait for seconds. The next drain must not meet it.
    await turn();
  }
  isOver = true;
  await Promise.all(clients);
  t.same(faults.slice(0, 5), [], `${faults.length} faults`);
  t.ok(answers > 2 * IN_FLIGHT, `${answers} answers`);
  t.same(
    pool.replicas.map(({ pid }, i) => pid !== before[i]),
    [true, true],
  );
});

// Behind Envoy: kill -9 of an engine, then of a whole replica, in mid-stream.

const EACH = 8;
/** Tokens of an answer: seconds of steps, so that it runs while the kill is prepared. */
const LONG = 1500;
const longModel = tinyModel(t.testdir({}), 4096);
const body = { prompt: 'Count: one, two,', max_tokens: LONG, ignore_eos: true };

/** `answered`, the error code, `cut` for a connection that broke, or the status. */
type End = string;

async function whole(url: string): Promise<End> {
  const response = await post(url, body);
  const text = await response.text();
  if (response.status === 200) return text.includes(`"completion_tokens":${LONG}`) ? 'answered' : 'incomplete';
  return /"code":"(\w+)"/.exec(text)?.[1] ?? String(response.status);
}

/** @param begun called with the first byte */
async function stream(url: string, begun: () => void): Promise<End> {
  const response = await post(url, { ...body, stream: true });
  if (response.body === null) throw new Error('no body');
  let text = '';
  try {
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      if (text === '') begun();
      text += part;
    }
  } catch {
    return 'cut';
  }
  const code = /data: \{"error":\{.*"code":"(\w+)"[^\n]*\}\}\n\ndata: \[DONE\]\n\n$/.exec(text)?.[1];
  return code ?? (/"finish_reason":"length".*data: \[DONE\]\n\n$/s.test(text) ? 'answered' : 'incomplete');
}

interface Ends {
  readonly streams: readonly End[];
  readonly wholes: readonly End[];
  /** Of the streams, those at the killed replica, and the same of all requests. */
  readonly streamsThere: number;
  readonly allThere: number;
}

/** Starts streams and whole answers, and kills a part of the replica when all run. @returns their ends */
async function endsAfter(pool: Pool, killed: Replica, kill: () => void): Promise<Ends> {
  const streams: Promise<End>[] = [];
  const wholes: Promise<End>[] = [];
  // One after the other: Envoy counts a request once its connection is there.
  for (let i = 0; i < EACH; i++)
    await new Promise<void>((begun) => {
      streams.push(stream(pool.url, begun));
    });
  const streamsThere = await inFlightAt(killed.opsUrl);
  for (let i = 1; i <= EACH; i++) {
    wholes.push(whole(pool.url));
    await until('it runs', async () => (await inFlight(pool)) === EACH + i);
  }
  const allThere = await inFlightAt(killed.opsUrl);
  kill();
  return { streams: await Promise.all(streams), wholes: await Promise.all(wholes), streamsThere, allThere };
}

const count = (ends: readonly End[], end: End): number => ends.filter((each) => each === end).length;

const killEngine = ({ pid }: Replica): boolean => process.kill(engineBelow(pid), 'SIGKILL');
void t.test('a kill in mid-stream', { skip }, async (t) => {
  const pool = await startPool(t, longModel, ['--max-running', '64']);
  const [a, b] = pool.replicas;

  await t.test('an engine: its answers end with an error, all others finish', async (t) => {
    const { streams, wholes, streamsThere, allThere } = await endsAfter(pool, a, () => {
      killEngine(a);
    });
    t.ok(Math.abs(allThere - EACH) <= 2, `${allThere} of ${2 * EACH} there, as few as elsewhere`);
    t.equal(count(streams, 'engine_lost'), streamsThere);
    t.equal(count([...streams, ...wholes], 'engine_lost'), allThere);
    t.equal(count([...streams, ...wholes], 'answered'), 2 * EACH - allThere, 'the others');
  });

  await t.test('while the engine restarts, no client sees it', async (t) => {
    await until('restarted', async () => (await fetch(`${a.opsUrl}/health/ready`)).ok);
    killEngine(a);
    const quick = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const response = await post(pool.url, { prompt: 'Hello', max_tokens: 1 });
        await response.text();
        return response.status;
      }),
    );
    // The kill may come under a request that has begun.
    t.ok(quick.filter((status) => status !== 200 && status !== 502).length === 0, quick.join(' '));
    await until('restarted', async () => (await fetch(`${a.opsUrl}/health/ready`)).ok);
    await until('seen', () => isHealthy(pool, a));
  });

  await t.test('a replica: its streams are cut, all others finish, and Envoy leaves it alone', async (t) => {
    await until('idle', async () => (await inFlight(pool)) === 0);
    const { streams, wholes, streamsThere } = await endsAfter(pool, b, () => b.process.kill('SIGKILL'));
    t.equal(count(streams, 'cut'), streamsThere, 'a client can tell a cut from an end');
    t.equal(count(streams, 'answered'), EACH - streamsThere);
    t.equal(count(wholes, 'answered'), EACH, 'a request whose status line has not come is repeated');
    const statuses = new Set<number>();
    for (let i = 0; i < 20; i++) statuses.add((await post(pool.url, { prompt: 'Hello', max_tokens: 1 })).status);
    t.same([...statuses], [200]);
    t.equal(await inFlightAt(a.opsUrl), 0);
  });
});
