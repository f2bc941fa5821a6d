/** A rolling restart of two replicas behind the proxies of deploy/, with 120 requests in flight all the time. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { tinyModel } from './helper.js';
import { missing, post, startPools } from './pool.js';

const IN_FLIGHT = 120;
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
  const headers = budget === null ? {} : { 'x-latency-budget-ms': String(budget) };
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

/** Clients of one proxy, each with one request in flight at a time. */
class Clients {
  answers = 0;
  readonly faults: string[] = [];
  readonly pending = new Set<Promise<unknown>>();
  #next = 0;

  constructor(private readonly url: string) {}

  /** Resolves with the last answers behind `isOver`. */
  async run(count: number, isOver: () => boolean): Promise<void> {
    const client = async (): Promise<void> => {
      while (!isOver()) {
        const asked = ask(this.url, this.#next++);
        this.pending.add(asked);
        const fault = await asked;
        this.pending.delete(asked);
        if (fault === null) this.answers++;
        else this.faults.push(fault);
      }
    };
    await Promise.all(Array.from({ length: count }, client));
  }
}

const skip = missing('haproxy') && missing('nginx');
void t.test('no accepted request is lost, and no client sees an error', { skip }, async (t) => {
  const pools = await startPools(t, model, ['--max-queue', '1000', '--drain-timeout', '60']);
  const [[, pool] = []] = pools;
  if (pool === undefined) throw new Error('no proxy');
  let isOver = false;
  const each = IN_FLIGHT / pools.length;
  const all = pools.map(([proxy, { url }]) => ({ proxy, clients: new Clients(url) }));
  const done = Promise.all(all.map(({ clients }) => clients.run(each, () => isOver)));
  // Every request in flight at that time has been answered at the end.
  const turn = () => Promise.all(all.flatMap(({ clients }) => [...clients.pending]));
  await turn();
  const before = pool.replicas.map(({ pid }) => pid);
  for (const replica of pool.replicas) {
    t.equal(await replica.stop(), 0, 'the drain ends with code 0');
    await replica.start();
    // A proxy with checks sees the replica within this time.
    await sleep(1500);
    // Behind a busy replica a retry of the drain can wait for seconds. The next drain must not meet it.
    await turn();
  }
  isOver = true;
  await done;
  for (const { proxy, clients } of all) {
    const { answers, faults } = clients;
    t.same(faults.slice(0, 5), [], `${proxy}: ${faults.length} faults`);
    t.ok(answers > 2 * each, `${proxy}: ${answers} answers`);
    t.comment(`${proxy}: ${answers} requests, 2 restarts, ${faults.length} losses`);
  }
  const found = pool.replicas.map(({ pid }, i) => pid !== before[i]);
  t.same(found, [true, true]);
});
