/** Nets that sleep beside direct requests: whenever all upstreams fail, nets and promises are kept. */
import fc from 'fast-check';
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { Scheduler } from '../../src/engine/scheduler/scheduler.js';
import type { RowPlan, StepPlan, TokenResult } from '../../src/engine/scheduler/step-plan.js';
import type { ArmedEvent, RejectedEvent, SequenceRequest } from '../../src/protocol/index.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { engineRequest } from '../simulator/simulated-request.js';
import { prior, simulated, total } from './fixtures.js';
import { sample, shape, table } from './sample.js';

const SLOTS = 8;

interface Job {
  readonly isNet: boolean;
  readonly at: number;
  readonly promptLength: number;
  readonly budgetMs: number;
  readonly tenant?: string;
  /** Budget of the first sentence, and of the first token; absent: none. */
  readonly sentenceMs?: number;
  readonly ttftMs?: number;
  /** Tokens of each sentence; absent: 18. An answer has two. */
  readonly sentence?: number;
}

/** A scheduler that has seen nothing. */
const fresh = (slots = SLOTS): Scheduler =>
  simulatedScheduler(
    { slots, kvPositions: 1e6 },
    {
      ...{ shape, table, policy: { ...defaultPolicy, requestOverheadMs: 0 } },
      priors: { lengths: prior, partialValue: null },
    },
  );

/** A gateway and an engine on one clock. All upstreams are silent, and fail at one instant. */
class Outage {
  readonly armed = new Map<string, ArmedEvent>();
  readonly promised = new Set<string>();
  readonly rejected: RejectedEvent[] = [];
  /** When nets woke, and when first sentences are whole. */
  readonly wokenAt = new Map<string, number>();
  readonly readyAt = new Map<string, number>();
  readonly plans: StepPlan[] = [];
  readonly #waiting: (readonly [Job, id: string])[];
  #hasFailed = false;

  /** @param failsAt Infinity: the upstreams say nothing */
  constructor(
    private readonly jobs: readonly Job[],
    private readonly failsAt = Infinity,
    readonly scheduler = fresh(),
    public now = 0,
    private readonly name = '',
  ) {
    const ids = jobs.map((job, i) => [job, `${job.isNet ? 'n' : 'r'}${name}${i}`] as const);
    this.#waiting = ids.sort(([a], [b]) => a.at - b.at);
  }

  run(): this {
    for (;;) {
      while ((this.#waiting[0]?.[0].at ?? Infinity) <= this.now) this.#arrive();
      if (!this.#hasFailed && this.failsAt <= this.now) {
        this.#hasFailed = true;
        for (const id of this.armed.keys()) this.scheduler.nets.wake(id);
      }
      if (!this.scheduler.isIdle || this.scheduler.nets.wakesAt <= this.now) this.#step();
      else {
        const failsAt = this.#hasFailed ? Infinity : this.failsAt;
        const next = Math.min(this.#waiting[0]?.[0].at ?? Infinity, this.scheduler.nets.wakesAt);
        if (next === Infinity) return this;
        this.now = Math.max(this.now, Math.min(next, failsAt));
      }
    }
  }

  /** Armed nets and promises without a sentence in time. */
  get late(): readonly string[] {
    const due = new Map(this.jobs.map((job, i) => [`${job.isNet ? 'n' : 'r'}${this.name}${i}`, job.at + job.budgetMs]));
    const kept = [...this.armed.keys(), ...this.promised];
    return kept.filter((id) => !((this.readyAt.get(id) ?? Infinity) <= (due.get(id) ?? NaN)));
  }

  #arrive(): void {
    const [job, id] = this.#waiting.shift() ?? [];
    if (job !== undefined && id !== undefined) this.scheduler.add(requestOf(job, id));
  }

  #step(): void {
    const plan = this.scheduler.schedule(this.now);
    this.plans.push(plan);
    this.#hear(plan);
    const ms = predictMs(sample, plan.work);
    this.now += ms;
    const tokens = plan.rows.flatMap((row) => this.#tokensOf(row));
    this.scheduler.commit(plan, { at: this.now, cycleMs: ms, planningMs: 0, tokens, draft: null });
  }

  #hear({ admitted, armed = [], rejected }: StepPlan): void {
    for (const each of armed) this.armed.set(each.id, each);
    for (const { id, serviceClass } of admitted)
      if (this.armed.has(id)) this.wokenAt.set(id, this.now);
      else if (serviceClass === 'guaranteed') this.promised.add(id);
    this.rejected.push(...rejected);
  }

  #tokensOf({ id }: RowPlan): TokenResult[] {
    const sequence = this.scheduler.find(id);
    if (sequence === undefined) return [];
    const { sentence = 18 } = this.jobs[Number(/\d+$/.exec(id)?.[0])] ?? {};
    const generated = sequence.generated + 1;
    if (generated === sentence) this.readyAt.set(id, this.now);
    const token = { id, token: -1, isEnd: false, mayEnd: generated % sentence === 0 };
    return generated < 2 * sentence ? [token] : [token, { id, token: 0, isEnd: true, mayEnd: null }];
  }
}

function requestOf(job: Job, id: string): SequenceRequest {
  const { isNet, at, promptLength, budgetMs, tenant, ttftMs = null, sentenceMs } = job;
  const budget = { ...total(budgetMs, 'land'), ttftMs, ...(sentenceMs !== undefined && { sentenceMs }) };
  const more = { promptLength, isExactLength: false, maxTokens: 256, ...(tenant !== undefined && { tenant }) };
  const number = Array.from(id, (each) => each.charCodeAt(0)).reduce((sum, code) => (sum * 31 + code) % 1e6, 7);
  const request = engineRequest(simulated(id, at, budget, more), number, shape);
  return isNet ? { ...request, isNet } : request;
}

const job = fc.record({
  isNet: fc.boolean(),
  at: fc.integer({ min: 0, max: 2000 }),
  promptLength: fc.integer({ min: 20, max: 400 }),
  budgetMs: fc.integer({ min: 300, max: 3000 }),
});
const jobs = fc.array(job, { minLength: 20, maxLength: 50 });
const failsAt = fc.integer({ min: 500, max: 3000 });

void t.test('nets and promises to direct requests are kept in a total outage at any instant', async (t) => {
  const sum = { armed: 0, direct: 0, late: 0 };
  for (const [each, at] of fc.sample(fc.tuple(jobs, failsAt), { numRuns: 12, seed: 7 })) {
    const { armed, promised, late } = new Outage(each, at).run();
    sum.armed += armed.size;
    sum.direct += promised.size;
    sum.late += late.length;
  }
  t.comment(JSON.stringify(sum));
  t.ok(sum.armed > 40 && sum.direct > 120, `${sum.armed} nets, ${sum.direct} promises`);
  t.ok(sum.late <= 0.01 * (sum.armed + sum.direct), `${sum.late} are late`);
});

/** Nets that arrive together. Their sentences are longer than most: all ask for the same. */
const burst = (count: number, more: Partial<Job> = {}): Job[] =>
  Array.from({ length: count }, (_, i) => ({
    ...{ isNet: true, at: 0, promptLength: 40, budgetMs: 6000, sentence: 12 + ((i * 7) % 34), ...more },
  }));

for (const count of [32, 64, 128])
  void t.test(`a fresh server keeps ${count} nets that are due together`, async (t) => {
    const first = new Outage(burst(count), Infinity, fresh(16)).run();
    t.comment(`${first.armed.size} armed, ${first.late.length} late, from ${Math.min(...first.wokenAt.values())} ms`);
    t.ok(first.armed.size >= count, `${first.armed.size} armed`);
    t.ok(first.late.length <= 0.01 * first.armed.size, `${first.late.length} late`);
    const { scheduler, now } = first;
    const again = new Outage(burst(count, { at: now }), Infinity, scheduler, now, 'again').run();
    t.comment(`then ${again.armed.size} armed, ${again.late.length} late`);
    t.ok(again.armed.size >= first.armed.size, 'they are not fewer behind an outage');
    t.ok(again.late.length <= 0.01 * again.armed.size, `${again.late.length} late`);
  });

/** Adds nets, which are decided at one instant. @returns why each has none; null of an armed one */
function armed(scheduler: Scheduler, nets: readonly Job[], now: number, name: string) {
  for (const [i, net] of nets.entries()) scheduler.add(requestOf(net, `${name}${i}`));
  const rejected: RejectedEvent[] = [];
  while (scheduler.arrived > 0) {
    const plan = scheduler.schedule(now);
    rejected.push(...plan.rejected);
    scheduler.commit(plan, { at: now, cycleMs: 1, planningMs: 0, tokens: [], draft: null });
  }
  return nets.map((_, i) => rejected.find(({ id }) => id === `${name}${i}`)?.reason ?? null);
}

void t.test('a net starts in time for its first sentence, or its first token', async (t) => {
  const startOf = (more: Partial<Job>): number => {
    const outage = new Outage(burst(1, { sentence: 18, ...more })).run();
    const [readyAt = Infinity] = outage.readyAt.values();
    t.ok(readyAt <= (more.sentenceMs ?? 6000), `its sentence is whole at ${readyAt} ms`);
    const [wokenAt = NaN] = outage.wokenAt.values();
    return wokenAt;
  };
  const late = startOf({});
  const early = startOf({ sentenceMs: 1500 });
  t.ok(late > 4500 && early < 1500 - (6000 - late) / 2, `${late} and ${early} ms`);
  const first = startOf({ ttftMs: 1500 });
  t.ok(first > early && first < 1500, `${first} ms`);
  const short = new Outage(burst(1, { sentenceMs: 10 })).run();
  t.ok(Math.min(...short.wokenAt.values()) < 10, 'one that can not be in time wakes at once');
  t.same(short.late, [], 'and has the promise of its total');
  const outage = new Outage(burst(32, { sentenceMs: 3000 })).run();
  const times = [...outage.armed.keys()].map((id) => outage.readyAt.get(id) ?? Infinity);
  t.ok(
    times.length > 4 && times.every((ms) => ms <= 3000),
    `${times.length} nets, the last at ${Math.max(...times)} ms`,
  );
});

void t.test('an idle engine prefills the prompts of nets, at full depth and without a row', async (t) => {
  const outage = new Outage(burst(3, { promptLength: 300 }), Infinity, fresh(2)).run();
  const asleep = outage.plans.slice(0, -1).filter(({ at }) => at < Math.min(...outage.wokenAt.values()));
  const filled = asleep.flatMap(({ chunks }) => chunks);
  t.ok(asleep.every(({ rows }) => rows.length === 0));
  t.equal(new Set(filled.map(({ id }) => id)).size, 2, 'each keeps a slot, of which there are two');
  t.ok(filled.every(({ exit }) => exit === shape.exits.length - 1));
  const latest = Math.max(...outage.wokenAt.values());
  const first = Math.min(...[...outage.armed.values()].map(({ latestStart }) => latestStart));
  t.ok(latest > first, `a net with its prompt wakes at ${latest} ms, not ${first}`);
  t.same(outage.late, []);
});

void t.test('a net wakes when it is called, and an id of no net is ignored', async (t) => {
  const scheduler = fresh();
  t.same(armed(scheduler, burst(2), 0, 'n'), [null, null]);
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

void t.test(
  'a net that no idle engine keeps has too small a budget, another one finds no room, and the first took none',
  async (t) => {
    const scheduler = fresh();
    t.same(armed(scheduler, burst(1, { budgetMs: 20 }), 0, 'short'), ['budget_infeasible']);
    const many = armed(scheduler, burst(150, { budgetMs: 1500 }), 0, 'n');
    const full = many.filter((reason) => reason === 'queue_full').length;
    t.ok(full > 0 && full < 150, `${full} find no room`);
    t.ok(many.every((reason) => reason === null || reason === 'queue_full'));
    t.equal(
      armed(fresh(), burst(150, { budgetMs: 1500 }), 0, 'n').filter((reason) => reason === 'queue_full').length,
      full,
    );
  },
);

void t.test('the nets of a tenant leave their share to one that found no room', async (t) => {
  const scheduler = fresh();
  const nets = (tenant: string, count: number): Job[] => burst(count, { tenant, budgetMs: 1500 });
  const all = armed(scheduler, nets('many', 150), 0, 'a').filter((reason) => reason === null).length;
  t.same(armed(scheduler, nets('few', 1), 1, 'b'), ['queue_full']);
  for (const { id } of scheduler.nets.all) scheduler.cancel(id, 'cancelled');
  const at = 50;
  const again = burst(150, { tenant: 'many', at, budgetMs: 1500 });
  const left = armed(scheduler, again, at, 'c').filter((reason) => reason === null).length;
  t.ok(left < 0.7 * all && left > 0.3 * all, `${left} of ${all}`);
  t.same(armed(scheduler, burst(1, { tenant: 'few', at, budgetMs: 1500 }), at + 1, 'd'), [null]);
});
