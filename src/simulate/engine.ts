/**
 * The engine without a model: runs requests in steps on a fake clock, with the router's own planning.
 *
 * The steps' times come from `actual` and not from the planning cost model, so that planning can be tried on a machine
 * that is slower, noisier or drifting.
 */
import { type CostModel, type Work } from '../cost/model.js';
import { type Admission, type EngineState, type Policy, type Router } from '../router/index.js';
import { type LiveRequest, type SimulatedRequest, isDone, isPrefilling, planStep, start } from './request.js';
import { type Room, fill, preempt } from './slots.js';

/** The part of the router that the simulated engine calls, as the real engine does. */
export type RouterFacade = Pick<
  Router,
  'admit' | 'enqueued' | 'order' | 'planStep' | 'landing' | 'isOverdue' | 'observeStep' | 'observeEnd'
>;

export interface Machine extends Room {
  /** Time in ms that a client waits outside the engine; added to every reported time. Default: 0. */
  readonly overheadMs?: number;
  /** Clients that never pause: a request arrives when one of them is free. Absent or null: at its own time. */
  readonly clients?: number | null;
  /** A rejected request arrives again at once, with the least budget that its rejection names. */
  readonly repeatsRejected?: boolean;
  /** Real time of a step in ms, from its work and the current time. */
  readonly actual: (work: Work, now: number) => number;
}

export interface Outcome {
  readonly request: SimulatedRequest;
  readonly admission: Admission;
  /** Null for a rejected request. */
  readonly firstTokenAt: number | null;
  readonly endedAt: number;
  /** Tokens in order, by exit layer. */
  readonly path: LiveRequest['path'];
  readonly tokens: number;
  readonly reason: 'length' | 'landed' | 'deadline' | 'refused';
  readonly replans: number;
  readonly preemptions: number;
}

/** The latest time of a truncated answer by the engine's clock; the client receives it after the overhead. */
function cutAt({ arrivedAt, budget, lands }: LiveRequest, overheadMs: number): number {
  const isCut = budget?.onMiss === 'truncate' || lands;
  return isCut && budget?.totalMs != null ? arrivedAt + budget.totalMs - overheadMs : Infinity;
}

/** Tokens of every sentence in the simulation, and tokens within which nine of ten real ones end. */
const SENTENCE_TOKENS = 18;
const LONG_SENTENCE_TOKENS = 24;

/** Whether an answer ends at the end of this sentence: the next one is likely to end too late. */
function hasLanded(each: LiveRequest, router: Pick<RouterFacade, 'landing'>, now: number): boolean {
  if (each.generated === 0 || each.generated % SENTENCE_TOKENS !== 0 || isPrefilling(each)) return false;
  const landing = router.landing(each);
  return landing !== null && now + LONG_SENTENCE_TOKENS * landing.tokenMs > landing.endsAt;
}

/** A request with another total budget. */
function withTotal(each: LiveRequest, totalMs: number): LiveRequest {
  const budget = each.budget && { ...each.budget, totalMs };
  return { ...each, budget, request: { ...each.request, budget } };
}

/** One step, for observers (tests, progress). */
export interface SimulatedStep {
  readonly now: number;
  readonly ms: number;
  readonly work: Work;
  readonly live: readonly LiveRequest[];
  readonly waiting: number;
  /** The outcomes so far. The array grows with the run. */
  readonly outcomes: readonly Outcome[];
}

/**
 * Serves all requests (in order of arrival) to their end, and yields after every step.
 * @param requests may grow while `isOpen` says so
 * @param costs step times by the machine's table
 * @returns one outcome per request, in order of its end
 * @throws Error if a step makes no progress, which is a bug of the router
 */
export function* simulate(
  requests: readonly SimulatedRequest[],
  machine: Machine,
  router: RouterFacade,
  costs: CostModel,
  policy: Policy,
  isOpen = (): boolean => false,
): Generator<SimulatedStep, Outcome[], void> {
  const outcomes: Outcome[] = [];
  const { overheadMs = 0, clients = null } = machine;
  let now = requests[0]?.arrivedAt ?? 0;
  let waiting: LiveRequest[] = [];
  let live: LiveRequest[] = [];
  let next = 0;
  let idleSteps = 0;
  const admissions = new Map<string, Admission>();

  const state = (): EngineState => ({
    now,
    slots: machine.slots,
    live,
    waiting,
    sentenceTokens: LONG_SENTENCE_TOKENS,
    kvPositions: machine.kvPositions,
  });
  const end = (each: LiveRequest, reason: Outcome['reason'], at = now): void => {
    const admission = admissions.get(each.id);
    if (admission === undefined) throw new Error(`request ${each.id} ended before it was admitted`);
    const { request, path, generated: tokens, replans, preemptions } = each;
    const firstTokenAt = each.firstTokenAt === null ? null : each.firstTokenAt + overheadMs;
    const endedAt = at + overheadMs;
    outcomes.push({ request, admission, firstTokenAt, endedAt, path, tokens, reason, replans, preemptions });
    if (reason === 'refused') return;
    router.observeEnd(each, admission, {
      firstTokenAt: each.firstTokenAt,
      endedAt: at,
      path,
      reason: reason === 'length' ? 'ended' : reason,
    });
  };

  const hasWork = (): boolean => next < requests.length || waiting.length > 0 || live.length > 0;
  while (hasWork() || isOpen()) {
    if (!hasWork()) {
      yield { now, ms: 0, work: { decode: null, prefill: [] }, live, waiting: 0, outcomes };
      continue;
    }
    // 1. Arrivals up to now are admitted or rejected together.
    if (clients === null && waiting.length === 0 && live.length === 0) {
      now = Math.max(now, requests[next]?.arrivedAt ?? now);
    }
    const arrived: LiveRequest[] = [];
    for (let request = requests[next]; request !== undefined; request = requests[next]) {
      const isFree =
        clients === null ? request.arrivedAt <= now : waiting.length + live.length + arrived.length < clients;
      if (!isFree) break;
      next++;
      arrived.push(start(clients === null ? request : { ...request, arrivedAt: now }, costs.shape));
    }
    const decided = arrived.length === 0 ? [] : router.admit(arrived, state());
    for (const [i, asked] of arrived.entries()) {
      let [each, admission] = [asked, decided[i]];
      if (admission?.kind === 'reject' && admission.leastFeasibleMs !== null && machine.repeatsRejected === true) {
        each = withTotal(asked, admission.leastFeasibleMs);
        [admission] = router.admit([each], state());
      }
      if (admission === undefined) continue;
      admissions.set(each.id, admission);
      if (admission.kind === 'reject') {
        end(each, 'refused');
        continue;
      }
      router.enqueued(each, now);
      waiting.push({ ...each, exit: admission.exit, serviceClass: admission.serviceClass });
    }

    // 2. Waiting requests take free slots, in order of service.
    const byId = new Map(waiting.map((each) => [each.id, each]));
    const ordered = router.order(state()).flatMap(({ id }) => byId.get(id) ?? []);
    ({ live, waiting } = fill(live, ordered, machine));

    // 3. Choose exits for this step, then the prompts to prefill.
    const plan = router.planStep(state());
    const exits = new Map(plan.exits.map(({ id, exit }) => [id, exit]));
    const paused = new Set(plan.paused);
    live = live.map((each) => {
      const exit = exits.get(each.id);
      return exit === undefined || exit === each.exit ? each : { ...each, exit, replans: each.replans + 1 };
    });
    const room = preempt(live, machine);
    live = room.live;
    waiting = [...room.preempted, ...waiting];
    const { chunks } = plan;

    // 4. Run.
    const decoding = live.filter((each) => !isPrefilling(each) && !paused.has(each.id));
    const step = planStep(live, { decoding, chunks }, costs, policy);
    const isOverdue = (each: LiveRequest): boolean => router.isOverdue(each, now, step.work);
    const overdue = live.filter(isOverdue);
    if (overdue.length > 0) {
      live = live.filter((each) => !overdue.includes(each));
      for (const each of overdue) end(each, 'deadline');
      continue;
    }
    const overdueWaiting = waiting.filter(isOverdue);
    waiting = waiting.filter((each) => !overdueWaiting.includes(each));
    for (const each of overdueWaiting) end(each, 'deadline');
    const ms = machine.actual(step.work, now);
    idleSteps = ms > 0 ? 0 : idleSteps + 1;
    if (idleSteps > 1 && live.length > 0) throw new Error(`no progress at ${now} ms with ${live.length} live requests`);
    now += ms;
    router.observeStep(step.work, ms);

    // 5. The gateway's timer ends answers whose deadline passed during a slow step (engine/client/deadline-timer.ts).
    const held = [...live, ...waiting].filter((each) => cutAt(each, overheadMs) < now);
    for (const each of held) end(each, 'deadline', cutAt(each, overheadMs));
    live = live.filter((each) => !held.includes(each));
    waiting = waiting.filter((each) => !held.includes(each));

    // 6. Emit tokens.
    live = step.advance(live, now);
    const done = live.filter((each) => isDone(each));
    for (const each of done) end(each, 'length');
    live = live.filter((each) => !done.includes(each));
    const landed = live.filter((each) => hasLanded(each, router, now));
    for (const each of landed) end(each, 'landed');
    live = live.filter((each) => !landed.includes(each));
    yield { now, ms, work: step.work, live, waiting: waiting.length, outcomes };
  }
  return outcomes;
}
