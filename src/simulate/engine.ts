/**
 * The engine without a model: requests in, steps on a fake clock, the router's own planning in between.
 *
 * Knows: the planner and what a step costs. Must not know: where requests come from, what is reported.
 *
 * Costs come from a model that may differ from the one that plans (`actual`), so that planning can be tried on a
 * machine that is slower, noisier or drifting.
 */
import {
  type Admission,
  type CostModel,
  type Policy,
  type RouterState,
  type Work,
  admitAll,
  chooseChunk,
  correct,
  isOverdue,
  predictMs,
  nothingLearned,
  observeEnd,
  observeRequest,
  order,
  replan,
  rest,
} from '../router/planner.js';
import { type LiveRequest, type SimulatedRequest, isPrefilling, planStep, start, toWaiting } from './request.js';
import { type Room, fill, freePositions, preempt } from './slots.js';

export interface Machine extends Room {
  /** What a caller waits for outside the engine: added to every instant that is reported. Absent: nothing. */
  readonly overheadMs?: number;
  /** Milliseconds that a step really takes, given what the true cost model says and the time. */
  readonly actual: (work: Work, now: number) => number;
}

export interface Outcome {
  readonly request: SimulatedRequest;
  readonly admission: Admission;
  /** Null for refused ones. */
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  /** Tokens by exit layer. */
  readonly exits: ReadonlyMap<number, number>;
  readonly tokens: number;
  readonly reason: 'length' | 'deadline' | 'refused';
  readonly replans: number;
  readonly preemptions: number;
}

/** When an answer is cut at the latest, as the engine counts: a caller hears of it after the overhead. */
function cutAt({ arrivedAt, budget }: LiveRequest, overheadMs: number): number {
  return budget?.onMiss === 'truncate' && budget.totalMs !== null ? arrivedAt + budget.totalMs - overheadMs : Infinity;
}

/** What a step did, for observers (tests, progress). */
export interface SimulatedStep {
  readonly now: number;
  readonly ms: number;
  readonly work: Work;
  readonly live: readonly LiveRequest[];
  readonly waiting: number;
}

/**
 * Serves all requests (by rising arrival) to their end, yielding after every step.
 * @returns one outcome per request, by end
 * @throws Error when a step makes no progress: a plan that never ends is a bug of the planner
 */
export function* simulate(
  requests: readonly SimulatedRequest[],
  machine: Machine,
  planning: CostModel,
  policy: Policy,
): Generator<SimulatedStep, Outcome[], void> {
  const outcomes: Outcome[] = [];
  const { overheadMs = 0 } = machine;
  let model = planning;
  let learned = nothingLearned;
  let now = requests[0]?.arrivedAt ?? 0;
  let waiting: LiveRequest[] = [];
  let live: LiveRequest[] = [];
  let next = 0;
  let idleSteps = 0;
  const admissions = new Map<string, Admission>();

  const state = (): RouterState => ({
    now,
    slots: machine.slots,
    kvRoom: freePositions(live, machine),
    live,
    waiting: waiting.map(toWaiting),
    learned,
  });
  const end = (each: LiveRequest, reason: Outcome['reason'], at = now): void => {
    const admission = admissions.get(each.id);
    if (admission === undefined) throw new Error(`request ${each.id} ended before it was admitted`);
    const { request, byExit: exits, generated: tokens, replans, preemptions } = each;
    const firstTokenAt = each.firstTokenAt === null ? null : each.firstTokenAt + overheadMs;
    const endedAt = at + overheadMs;
    outcomes.push({ request, admission, firstTokenAt, endedAt, exits, tokens, reason, replans, preemptions });
    const whole = reason === 'length';
    learned = observeEnd(learned, each, admission, { ...each, endedAt: at, tokens, whole }, policy);
  };

  while (next < requests.length || waiting.length > 0 || live.length > 0) {
    // 1. Arrivals up to now are admitted or refused at once.
    if (waiting.length === 0 && live.length === 0) {
      const later = Math.max(now, requests[next]?.arrivedAt ?? now);
      model = rest(model, later - now);
      now = later;
    }
    const arrived: LiveRequest[] = [];
    for (let request = requests[next]; request !== undefined && request.arrivedAt <= now; request = requests[next]) {
      next += 1;
      arrived.push(start(request, model.shape));
    }
    const decided = arrived.length === 0 ? [] : admitAll(arrived.map(toWaiting), state(), model, policy);
    for (const [i, each] of arrived.entries()) {
      const admission = decided[i];
      if (admission === undefined) continue;
      admissions.set(each.id, admission);
      if (admission.kind === 'refuse') {
        end(each, 'refused');
        continue;
      }
      learned = observeRequest(learned, each, now);
      waiting.push({ ...each, exit: admission.exit, promised: admission.bound, told: admission.feasible });
    }

    // 2. Free slots go to the waiting, in order of service.
    ({ live, waiting } = fill(live, order(waiting, state(), model, policy), machine));

    // 3. Depths for this step, then the prompt that goes on.
    const plan = replan(live, state(), model, policy);
    const exits = new Map(plan.exits.map(({ id, exit }) => [id, exit]));
    const paused = new Set(plan.paused);
    live = live.map((each) => {
      const exit = exits.get(each.id);
      return exit === undefined ? each : { ...each, exit, tokensAtExit: 0, replans: each.replans + 1 };
    });
    const room = preempt(live, machine);
    live = room.live;
    waiting = [...room.preempted, ...waiting];
    const holders = new Set(live.map(({ id }) => id));
    const chunk = chooseChunk(plan.plan, paused, ({ request: { id } }) => holders.has(id));

    // 4. Run.
    const decoding = live.filter((each) => !isPrefilling(each) && !paused.has(each.id));
    const step = planStep(live, { decoding, chunk }, model, policy);
    const coming = predictMs(model, step.work);
    const overdue = live.filter((each) => isOverdue(each, now, coming, policy));
    if (overdue.length > 0) {
      live = live.filter((each) => !overdue.includes(each));
      for (const each of overdue) end(each, 'deadline');
      continue;
    }
    const overdueWaiting = waiting.filter((each) => isOverdue(each, now, coming, policy));
    waiting = waiting.filter((each) => !overdueWaiting.includes(each));
    for (const each of overdueWaiting) end(each, 'deadline');
    const ms = machine.actual(step.work, now);
    idleSteps = ms > 0 ? 0 : idleSteps + 1;
    if (idleSteps > 1 && live.length > 0) throw new Error(`no progress at ${now} ms with ${live.length} live requests`);
    now += ms;
    model = correct(model, step.work, ms, live.length + waiting.length > 1);

    // 5. The gateway's timer ends what a slow step holds up past its deadline (engine/deadline-watch.ts).
    const held = [...live, ...waiting].filter((each) => cutAt(each, overheadMs) < now);
    for (const each of held) end(each, 'deadline', cutAt(each, overheadMs));
    live = live.filter((each) => !held.includes(each));
    waiting = waiting.filter((each) => !held.includes(each));

    // 6. Tokens out.
    live = step.advance(live, now);
    for (const each of live) if (each.generated >= each.request.tokens) end(each, 'length');
    live = live.filter((each) => each.generated < each.request.tokens);
    yield { now, ms, work: step.work, live, waiting: waiting.length };
  }
  return outcomes;
}
