/** Armed nets beside direct requests: whenever all upstreams fail, nets and promises are kept. */
import fc from 'fast-check';
import t from 'tap';
import { predictMs } from '../../src/engine/scheduler/cost/model.js';
import type { NetWork, PromisedPart, SequenceRequest } from '../../src/protocol/index.js';
import { defaultPolicy } from '../../src/engine/scheduler/policy.js';
import type { RowPlan, StepPlan, TokenResult } from '../../src/engine/scheduler/step-plan.js';
import { simulatedScheduler } from '../simulator/machine.js';
import { engineRequest } from '../simulator/simulated-request.js';
import { type Booking, NetAccount } from '../../src/gateway/upstream/net-account.js';
import { NetMargin } from '../../src/gateway/upstream/net-margin.js';
import { admission, asking, natural, plannerOf, prior, simulated, stateOf, total } from './fixtures.js';
import { sample, shape, table } from './sample.js';

const SLOTS = 8;
/** Tokens of each sentence, and of each answer. */
const SENTENCE = 18;
const ANSWER = 2 * SENTENCE;

interface Job {
  readonly isNet: boolean;
  readonly at: number;
  readonly promptLength: number;
  readonly budgetMs: number;
}

interface ArmedNet {
  readonly request: SequenceRequest;
  readonly booking: Booking;
  hasBegun: boolean;
}

/** A gateway and an engine on one clock. All upstreams are silent, and fail at one instant. */
class Outage {
  now = 0;
  readonly #policy = { ...defaultPolicy, requestOverheadMs: 0 };
  readonly #scheduler = simulatedScheduler(
    { slots: SLOTS, kvPositions: 1e6 },
    { shape, table, policy: this.#policy, priors: { lengths: prior, partialValue: null } },
  );
  readonly #account = new NetAccount();
  readonly #margin = new NetMargin();
  readonly #armed = new Map<string, ArmedNet>();
  readonly #promised = new Set<string>();
  /** When the first sentences are whole. */
  readonly #readyAt = new Map<string, number>();

  constructor(
    private readonly jobs: readonly Job[],
    private readonly failsAt: number,
  ) {}

  /** @returns how many promises were made, and how many of them were late */
  run(): { readonly armed: number; readonly direct: number; readonly late: number } {
    const waiting = this.jobs.map((job, i) => ({ job, i })).sort((a, b) => a.job.at - b.job.at);
    for (;;) {
      while ((waiting[0]?.job.at ?? Infinity) <= this.now) this.#arrive(waiting.shift());
      for (const [id, net] of this.#armed) if (this.#startOf(net) <= this.now) this.#begin(id, net);
      if (!this.#scheduler.isIdle) this.#step();
      else {
        const next = Math.min(
          waiting[0]?.job.at ?? Infinity,
          ...[...this.#armed.values()].map((net) => this.#startOf(net)),
        );
        if (next === Infinity) break;
        this.now = Math.max(this.now, next);
      }
    }
    const kept = [...this.#armed.keys(), ...this.#promised];
    const isLate = (id: string): boolean => {
      const { at = NaN, budgetMs = NaN } = this.jobs[Number(id.slice(1))] ?? {};
      return !((this.#readyAt.get(id) ?? Infinity) <= at + budgetMs);
    };
    return { armed: this.#armed.size, direct: this.#promised.size, late: kept.filter(isLate).length };
  }

  #startOf({ hasBegun, booking }: ArmedNet): number {
    return hasBegun ? Infinity : Math.min(this.failsAt, booking.latestStart);
  }

  #arrive(arrival: { readonly job: Job; readonly i: number } | undefined): void {
    if (arrival === undefined) return;
    const { job, i } = arrival;
    const request = requestOf(job, i);
    if (!job.isNet) this.#scheduler.add(request);
    else {
      const budget = { ...total(60_000, 'reject'), ttftMs: 0.001 };
      const dry = { ...request, id: `d${i}`, arrivedAt: this.now, depth: { ...request.depth, budget }, isDryRun: true };
      this.#scheduler.add(dry);
    }
  }

  #begin(id: string, net: ArmedNet): void {
    net.hasBegun = true;
    net.booking.began(this.now);
    this.#scheduler.nets.delete(Number(id.slice(1)));
    this.#scheduler.add(net.request);
  }

  #step(): void {
    const plan = this.#scheduler.schedule(this.now);
    this.#hear(plan);
    const ms = predictMs(sample, plan.work);
    this.now += ms;
    const tokens = plan.rows.flatMap((row) => this.#tokensOf(row));
    const ended = this.#scheduler.commit(plan, { at: this.now, cycleMs: ms, planningMs: 0, tokens, draft: null });
    for (const { id } of [...ended, ...plan.ended]) this.#armed.get(id)?.booking.end();
  }

  #hear({ admitted, rejected }: StepPlan): void {
    for (const { id, serviceClass } of admitted)
      if (id.startsWith('r') && serviceClass === 'guaranteed') this.#promised.add(id);
    for (const { id, leastFeasibleMs, promised } of rejected) {
      if (id.startsWith('d') && leastFeasibleMs !== null && promised !== undefined)
        this.#arm(Number(id.slice(1)), { sentenceMs: leastFeasibleMs, ...promised });
    }
  }

  #arm(i: number, { direct, ...forecast }: NetWork & { readonly sentenceMs: number }): void {
    const job = this.jobs[i];
    if (job === undefined) return;
    const parts = this.#margin.parts(forecast, job.at + job.budgetMs, 1);
    const booking = this.#account.book(parts, { now: this.now, slots: SLOTS, direct }, () => undefined);
    if (booking === null) return;
    if (this.now >= this.failsAt) {
      booking.end();
      return;
    }
    this.#armed.set(`n${i}`, { request: requestOf(job, i), booking, hasBegun: false });
    for (const part of parts) this.#scheduler.nets.set(i, part);
  }

  #tokensOf({ id }: RowPlan): TokenResult[] {
    const sequence = this.#scheduler.find(id);
    if (sequence === undefined) return [];
    const generated = sequence.generated + 1;
    if (generated === SENTENCE) this.#readyAt.set(id, this.now);
    const token = { id, token: -1, isEnd: false, mayEnd: generated % SENTENCE === 0 };
    return generated < ANSWER ? [token] : [token, { id, token: 0, isEnd: true, mayEnd: null }];
  }
}

function requestOf({ isNet, at, promptLength, budgetMs }: Job, i: number): SequenceRequest {
  const more = { promptLength, isExactLength: false, maxTokens: 256 };
  const id = `${isNet ? 'n' : 'r'}${i}`;
  const request = engineRequest(simulated(id, at, total(budgetMs, 'land'), more), i, shape);
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

// As many as the slots hold: beyond that, rows that go on past their promise may hold the slots of nets.
void t.test('nets and promises to direct requests are kept in a total outage at any instant', async (t) => {
  const sum = { armed: 0, direct: 0, late: 0 };
  for (const [each, at] of fc.sample(fc.tuple(jobs, failsAt), { numRuns: 6, seed: 7 })) {
    const { armed, direct, late } = new Outage(each, at).run();
    sum.armed += armed;
    sum.direct += direct;
    sum.late += late;
  }
  t.comment(JSON.stringify(sum));
  t.ok(sum.armed > 20 && sum.direct > 60, `${sum.armed} nets, ${sum.direct} promises`);
  t.ok(sum.late <= 0.02 * (sum.armed + sum.direct), `${sum.late} are late`);
});

void t.test('a promise leaves armed nets their time', async (t) => {
  const part = { dueAt: 2000, sentenceMs: 800, prefillMs: 600, fullMs: 700, besideMs: 20 };
  const request = asking('direct', total(5000, 'land'), natural);
  const classOf = (nets: readonly PromisedPart[], asked = request): string => {
    const answer = admission(plannerOf(), asked, stateOf({ nets }));
    return answer.kind === 'admit' ? answer.serviceClass : 'rejected';
  };
  t.equal(classOf([]), 'guaranteed');
  t.equal(classOf([part]), 'guaranteed', 'the net leaves time');
  t.equal(classOf([{ ...part, dueAt: 1810 }]), 'best_effort', 'the net starts within 10 ms');
  t.equal(classOf([{ ...part, dueAt: 900 }]), 'guaranteed', 'the time of the net is over');
});
