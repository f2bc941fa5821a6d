/**
 * Each attack for a moment, beside clients with budgets: their promises are kept, none of their requests is lost, and the
 * server returns to rest.
 *
 * Budgets are long, because the machine may be busy: an attack that starves others keeps them waiting for good.
 */
import { setMaxListeners } from 'node:events';
import t from 'tap';
import { ATTACKS, type Outcomes, ask } from './attacks.js';
import { enginePid, memoryOf, pidOf, serve, tinyModel, untilIdle } from './helper.js';

const SECONDS = 1;
const CLIENTS = 3;
const BUDGET_MS = 30_000;
const CONTEXT = 1024;
const KEYS = ['sk-attacker', ...Array.from({ length: CLIENTS }, (_, index) => `sk-${index}`)];
/** Most growth over all attacks in MB. The heaps grow to their sizes; a queue without a bound takes gigabytes. */
const GROWTH_MB = 400;

const dir = t.testdir();
t.setTimeout(600_000);
void t.test('clients keep their promises beside each attack', { skip: process.platform !== 'linux' }, async (t) => {
  const server = await serve(t, tinyModel(dir, CONTEXT), ['--kv-memory', '16MiB', '--api-key', KEYS.join(',')]);
  const pids = [pidOf(server), enginePid(server)];
  const target = { url: server.url, key: 'sk-attacker', context: CONTEXT, vocabulary: 256, exit: 2 };
  const before = memoryOf(server);
  for (const { name, run } of ATTACKS) {
    const outcomes: Outcomes = { answered: 0, rejected: 0, left: 0, failed: [] };
    const tally = { asked: 0, promised: 0, faults: [] };
    const over = new AbortController();
    setMaxListeners(Infinity, over.signal);
    const attack = run(target, outcomes, over.signal);
    const honest = (key: string) => ({ url: server.url, key, budgetMs: BUDGET_MS, pids });
    const signal = AbortSignal.timeout(SECONDS * 1000);
    await Promise.all(KEYS.slice(1).map((key) => ask(honest(key), tally, signal)));
    over.abort();
    await attack;
    t.ok(tally.promised >= CLIENTS, `${name}: ${tally.promised} promised of ${tally.asked}`);
    t.same(tally.faults, [], `${name}: promises are kept, and no request is lost`);
    t.same(outcomes.failed, [], `${name}: no error of the server`);
    t.ok(outcomes.answered + outcomes.rejected + outcomes.left > 0, `${name} took place`);
    await untilIdle(server);
  }
  const grown = memoryOf(server) - before;
  t.ok(grown < GROWTH_MB, `memory grew by ${grown.toFixed(0)} MB`);
  t.equal((await fetch(`${server.url}/health/ready`)).status, 200);
});
