/** Nets that sleep beside direct requests: whenever all upstreams fail, nets and promises are kept. */
import fc from 'fast-check';
import t from 'tap';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import type { ArmedEvent, Budget, RejectedEvent } from '../../src/protocol/index.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { engineRequest, type SimulatedRequest } from '../simulator/simulated-request.js';
import { prior, type Setting, serve, simulated, total } from './fixtures.js';
import { layers, shape, table } from './sample.js';

/** A scheduler that has seen nothing. */
const fresh = (slots = 8): Scheduler =>
  simulatedScheduler(
    { slots, kvPositions: 1e6 },
    {
      ...{ shape, table, policy: { ...defaultPolicy, requestOverheadMs: 0 } },
      priors: { lengths: prior },
    },
  );

interface Asked extends Partial<Omit<SimulatedRequest, 'budget'>> {
  readonly budgetMs?: number;
  readonly budget?: Partial<Budget>;
}

/** A net, or a direct request, whose answer has two sentences. */
function asked(id: string, { budgetMs = 6000, budget, sentenceTokens = 18, ...more }: Asked = {}): SimulatedRequest {
  const lengths = layers.map(() => 2 * sentenceTokens);
  const answer = { promptLength: 40, isNet: true, isExactLength: false, maxTokens: 256, lengths, sentenceTokens };
  return simulated(id, 0, { ...total(budgetMs, 'land'), ...budget }, { ...answer, ...more });
}

/** Serves requests whose upstreams are silent, and fail at one instant where the machine says so. */
function outage(requests: readonly SimulatedRequest[], { machine = { slots: 8 }, ...more }: Setting = {}) {
  const { steps, outcomes, scheduler } = serve(requests, { machine, ...more });
  const armed = new Map<string, ArmedEvent>();
  const promised = new Set<string>();
  /** When nets woke, and when first sentences are whole. */
  const [wokenAt, readyAt] = [new Map<string, number>(), new Map<string, number>()];
  const sentenceOf = new Map(requests.map(({ id, sentenceTokens = NaN }) => [id, sentenceTokens]));
  const note = (id: string, tokens: number, at: number): void => {
    if (tokens >= (sentenceOf.get(id) ?? NaN) && !readyAt.has(id)) readyAt.set(id, at);
  };
  for (const { plan, live, now } of steps) {
    for (const each of plan.armed ?? []) armed.set(each.id, each);
    for (const { id, serviceClass } of plan.admitted)
      if (armed.has(id)) wokenAt.set(id, plan.at);
      else if (serviceClass === 'guaranteed') promised.add(id);
    for (const { id, generated } of live) note(id, generated, now);
  }
  for (const { request, tokens, endedAt } of outcomes) note(request.id, tokens, endedAt);
  /** Armed nets and promises without a sentence in time. */
  const late = requests.filter(({ id, arrivedAt, budget }) => {
    return (
      (armed.has(id) || promised.has(id)) && !((readyAt.get(id) ?? Infinity) <= arrivedAt + (budget?.totalMs ?? 0))
    );
  });
  return { armed, promised, wokenAt, readyAt, late, steps, scheduler };
}

const jobs = fc.array(
  fc.record({
    isNet: fc.boolean(),
    arrivedAt: fc.integer({ min: 0, max: 2000 }),
    promptLength: fc.integer({ min: 20, max: 400 }),
    budgetMs: fc.integer({ min: 300, max: 3000 }),
  }),
  { minLength: 20, maxLength: 50 },
);
const failsAt = fc.integer({ min: 500, max: 3000 });

void t.test('nets and promises to direct requests are kept in a total outage at any instant', async (t) => {
  const sum = { armed: 0, direct: 0, late: 0 };
  for (const [each, at] of fc.sample(fc.tuple(jobs, failsAt), { numRuns: 12, seed: 7 })) {
    const requests = each.map((job, i) => asked(`r${i}`, job)).sort((a, b) => a.arrivedAt - b.arrivedAt);
    const { armed, promised, late } = outage(requests, { machine: { slots: 8, failsAt: at } });
    sum.armed += armed.size;
    sum.direct += promised.size;
    sum.late += late.length;
  }
  t.comment(JSON.stringify(sum));
  t.ok(sum.armed > 40 && sum.direct > 120, `${sum.armed} nets, ${sum.direct} promises`);
  t.ok(sum.late <= 0.01 * (sum.armed + sum.direct), `${sum.late} are late`);
});

/** Nets that arrive together. Their sentences are longer than most: all ask for the same. */
const burst = (count: number, more: Asked = {}, name = 'n'): SimulatedRequest[] =>
  Array.from({ length: count }, (_, i) => asked(`${name}${i}`, { sentenceTokens: 12 + ((i * 7) % 34), ...more }));

for (const count of [32, 128])
  void t.test(`a fresh server keeps ${count} nets that are due together`, async (t) => {
    const first = outage(burst(count), { machine: { slots: 16 } });
    t.equal(first.armed.size, count);
    t.ok(first.late.length <= 0.01 * count, `${first.late.length} late`);
    const arrivedAt = first.steps.at(-1)?.now ?? NaN;
    const again = outage(burst(count, { arrivedAt }, 'again'), { machine: { slots: 16 }, scheduler: first.scheduler });
    t.equal(again.armed.size, count, 'they are not fewer behind an outage');
    t.ok(again.late.length <= 0.01 * count, `${again.late.length} late`);
  });

/** Adds nets, which are decided at one instant. @returns why each has none; null of an armed one */
function armed(scheduler: Scheduler, nets: readonly SimulatedRequest[], now: number) {
  for (const [i, net] of nets.entries()) scheduler.add(engineRequest({ ...net, arrivedAt: now }, i, shape));
  const rejected: RejectedEvent[] = [];
  while (scheduler.arrived > 0) {
    const plan = scheduler.schedule(now);
    rejected.push(...plan.rejected);
    scheduler.commit(plan, { at: now, cycleMs: 1, planningMs: 0, tokens: [], draft: null });
  }
  return nets.map((net) => rejected.find(({ id }) => id === net.id)?.reason ?? null);
}

void t.test('a net starts in time for its first sentence, or its first token', async (t) => {
  const startOf = (budget: Partial<Budget> = {}): number => {
    const { readyAt, wokenAt, late } = outage([asked('n', { budget })]);
    t.ok((readyAt.get('n') ?? NaN) <= 6000 && late.length === 0, `its sentence is whole at ${readyAt.get('n')} ms`);
    return wokenAt.get('n') ?? NaN;
  };
  const [late, early, first] = [startOf(), startOf({ sentenceMs: 1500 }), startOf({ ttftMs: 1500 })];
  t.ok(late > 4500 && early < 1500 - (6000 - late) / 2, `${late} and ${early} ms`);
  t.ok(first > early && first < 1500, `${first} ms`);
  t.ok(startOf({ sentenceMs: 10 }) < 10, 'one that can not be in time wakes at once, with the promise of its total');
  const { armed: all, readyAt } = outage(burst(32, { budget: { sentenceMs: 3000 }, sentenceTokens: 18 }));
  const times = [...all.keys()].map((id) => readyAt.get(id) ?? Infinity);
  t.ok(times.length > 4 && times.every((ms) => ms <= 3000), `${times.length} nets, until ${Math.max(...times)} ms`);
});

void t.test('an idle engine prefills the prompts of nets, at full depth and without a row', async (t) => {
  const { steps, wokenAt, armed, late } = outage(burst(3, { promptLength: 300 }), { machine: { slots: 2 } });
  const asleep = steps.map(({ plan }) => plan).filter(({ at }) => at < Math.min(...wokenAt.values()));
  const filled = asleep.flatMap(({ chunks }) => chunks);
  t.ok(asleep.every(({ rows }) => rows.length === 0));
  t.equal(new Set(filled.map(({ id }) => id)).size, 2, 'each keeps a slot, of which there are two');
  t.ok(filled.every(({ exit }) => exit === shape.exits.length - 1));
  const latest = Math.max(...wokenAt.values());
  const first = Math.min(...[...armed.values()].map(({ latestStart }) => latestStart));
  t.ok(latest > first, `a net with its prompt wakes at ${latest} ms, not ${first}`);
  t.same(late, []);
});

void t.test('a net that starts within two chunks leaves no time for a prompt', async (t) => {
  const scheduler = fresh();
  armed(scheduler, burst(2), 0);
  t.same(scheduler.schedule(scheduler.nets.wakesAt - 1).chunks, []);
});

void t.test('a net that wakes late keeps the promise of its sleep', async (t) => {
  const scheduler = fresh();
  armed(scheduler, burst(1), 0);
  t.match(scheduler.schedule(scheduler.nets.wakesAt + 100).admitted, [{ serviceClass: 'guaranteed' }]);
});

void t.test('a net wakes when it is called, and an id of no net is ignored', async (t) => {
  const scheduler = fresh();
  t.same(armed(scheduler, burst(2), 0), [null, null]);
  scheduler.nets.wake('n0');
  scheduler.nets.wake('other');
  const { admitted } = scheduler.schedule(10);
  t.match(admitted, [{ id: 'n0', serviceClass: 'guaranteed' }]);
  t.match(scheduler.slots.running, [{ id: 'n0' }]);
  t.same(
    scheduler.nets.all.map(({ id }) => id),
    ['n1'],
  );
});

const count = (reasons: ReturnType<typeof armed>, of: string | null): number =>
  reasons.filter((reason) => reason === of).length;

void t.test(
  'a net that no idle engine keeps has too small a budget, and takes nothing; another one finds no room',
  async (t) => {
    const many = burst(150, { budgetMs: 1500 });
    const scheduler = fresh();
    t.same(armed(scheduler, burst(1, { budgetMs: 20 }, 'short'), 0), ['budget_infeasible']);
    const reasons = armed(scheduler, many, 0);
    const full = count(reasons, 'queue_full');
    t.ok(full > 0 && full < 150 && full + count(reasons, null) === 150, `${full} find no room`);
    t.equal(count(armed(fresh(), many, 0), 'queue_full'), full);
  },
);

void t.test('the nets of a tenant leave their share to one that found no room', async (t) => {
  const scheduler = fresh();
  const nets = (tenant: string, name: string, count = 150) => burst(count, { tenant, budgetMs: 1500 }, name);
  const all = count(armed(scheduler, nets('many', 'a'), 0), null);
  t.same(armed(scheduler, nets('few', 'b', 1), 1), ['queue_full']);
  for (const { id } of scheduler.nets.all) scheduler.cancel(id, 'cancelled');
  const left = count(armed(scheduler, nets('many', 'c'), 50), null);
  t.ok(left < 0.7 * all && left > 0.3 * all, `${left} of ${all}`);
  t.same(armed(scheduler, nets('few', 'd', 1), 51), [null]);
});
