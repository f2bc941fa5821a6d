/**
 * Which prompt goes on in this step, and by how many positions: as many as nobody who is due earlier has to pay for.
 *
 * Knows: the step's plan, the pace of decoding sequences. Must not know: KV slots.
 */
import type { Batch } from './batch.js';
import { isBlocked } from './crowd.js';
import { byInstant, virtualDeadline } from './deadlines.js';
import { type Job, advanceWork, gapAt } from './jobs.js';
import { type CostModel, predictMs } from './model.js';
import type { DepthPlan } from './plan.js';
import { planChunk } from './policy.js';
import type { Row } from './rest.js';
import { promptMs } from './steps.js';

/** Share of its budget that a prompt waits for the depth of others; from then on only their deadlines go before it. */
const PATIENCE = 0.1;
/** Share of the slots below which so few decode that steps cost about the same with more rows. */
const THIN = 0.25;
const NOBODY: ReadonlySet<string> = new Set();

export interface Chunk {
  readonly id: string;
  /** Counted from the stage of its exit that is furthest behind; stages that are there already do nothing. */
  readonly positions: number;
}

/**
 * @param plan of this step, with everybody at the exits that they get
 * @param paused ids of those that sit this step out
 * @param isLive whether a sequence still holds its slot, and a prompt still lacks something: a plan may be some steps old
 * @returns null where nothing is to be prefilled, or where decoding sequences have no time for it
 */
export function chooseChunk(
  plan: DepthPlan,
  paused: ReadonlySet<string> = NOBODY,
  isLive: (job: Job) => boolean = () => true,
): Chunk | null {
  const { agenda, batch, exits } = plan;
  const { jobs, model, policy, state } = batch;
  const prompts: Place[] = [];
  const decoding: Row[] = [];
  jobs.forEach((job, index) => {
    if (job.live === null || !isLive(job)) return;
    const exit = exits[index] ?? job.present;
    // Who lacks only the last position decodes.
    if (job.prefilling && gapAt(job, exit, model) > 0) prompts.push({ job, exit, index, due: dueOf(job, plan) });
    else if (!paused.has(job.request.id)) decoding.push({ job, index });
  });
  prompts.sort((a, b) => byInstant(a.due, b.due) || byInstant(batch.due(a.job), batch.due(b.job)));
  const first = prompts[0];
  if (first === undefined) return null;
  const smallest = policy.chunks[0] ?? 1;
  // Where all rest, they rest for a prompt that is due before them.
  if (decoding.length === 0 && first.job.bound) return chunkOf(first, policy.chunks.at(-1) ?? smallest, model);

  const pace = paceMs(plan, decoding);
  // Nobody is held up where nobody decodes.
  const stall = decoding.length === 0 ? Infinity : policy.maxStallMs;
  // Where all slots are held and few decode, deadlines that can't be kept would leave the machine half empty.
  const isThin = isBlocked(state) && decoding.length < THIN * state.slots;
  for (const place of prompts) {
    const { job, index, due } = place;
    const spare = isThin ? Infinity : agenda.spareBefore(job.bound ? due : Infinity, index, isPatient(job, state.now));
    const size = largest(place, batch, { pace, stall, spare });
    if (size > 0) return chunkOf(place, size, model);
    // Nobody has time: the prompt waits, but not for ever.
    if (isStarving(place, batch)) return chunkOf(place, smallest, model);
  }
  // Where nothing else would run, somebody goes on.
  return decoding.length === 0 ? chunkOf(first, policy.chunks.at(-1) ?? smallest, model) : null;
}

/** A live prompt, its exit in this step, and its place in the batch. */
interface Place extends Row {
  readonly exit: number;
  readonly due: number;
}

/** Whoever was given up is due after everybody else: only time that all others can spare makes him less late. */
function dueOf(job: Job, { agenda, batch }: DepthPlan): number {
  return agenda.lost.has(job) ? Infinity : batch.due(job);
}

/** Whether others' depth still goes before a prompt: it did not wait for long, measured by its own budget. */
function isPatient({ request, deadlines }: Job, now: number): boolean {
  return now - request.arrivedAt < PATIENCE * (deadlines.end - request.arrivedAt);
}

/**
 * Whether a prompt waited for longer than its share of the machine would have needed for all of it. Promises that are
 * older than the request go before: they were made without counting on it.
 */
function isStarving({ job, exit }: Place, { jobs, state, model, policy }: Batch): boolean {
  const { arrivedAt } = job.request;
  const aloneMs = promptMs(model, exit, job.target, planChunk(policy));
  if (virtualDeadline(arrivedAt, aloneMs, policy) > state.now) return false;
  return jobs.every(({ bound, request }) => !bound || request.id === job.request.id || request.arrivedAt > arrivedAt);
}

function chunkOf({ job, exit }: Place, size: number, model: CostModel): Chunk {
  return { id: job.request.id, positions: Math.min(gapAt(job, exit, model), size) };
}

/** Milliseconds that a chunk may take: at the pace of those who decode, for holding up anybody, before others are due. */
interface ChunkLimits {
  readonly pace: number;
  readonly stall: number;
  readonly spare: number;
}

/**
 * Largest chunk that takes at most `spare` ms; 0 where none does. Small chunks cost more per position, so only pace and
 * stall make one smaller than plans assume: a prompt rather waits.
 */
function largest({ job, exit }: Place, { model, policy }: Batch, { pace, stall, spare }: ChunkLimits): number {
  const gap = gapAt(job, exit, model);
  const frontier = job.live?.frontier ?? [];
  let best = 0;
  let bearable = 0;
  for (const size of policy.chunks) {
    const positions = Math.min(size, gap);
    const prefill = advanceWork(frontier, exit, job.target - gap + positions, model, positions);
    const ms = predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
    if (ms > pace || (bearable > 0 && ms > stall)) break;
    bearable = positions;
    if (ms <= spare) best = positions;
    if (size >= gap) break;
  }
  return best < Math.min(bearable, planChunk(policy)) ? 0 : best;
}

/**
 * Milliseconds that the pace of every decoding sequence can bear in this step: the mean so far must hold at the next
 * token, since any token may be the last. Who misses anyway doesn't hold up others.
 */
function paceMs({ batch, exits }: DepthPlan, decoding: readonly Row[]): number {
  const { state, model, step } = batch;
  const rows = new Int32Array(model.shape.exits.length);
  for (const { job, index } of decoding) {
    const exit = exits[index] ?? job.present;
    rows[exit] = (rows[exit] ?? 0) + 1;
  }
  const stepMs = step(rows);
  let least = Infinity;
  for (const { bound, firstTokenAt, deadlines, request } of decoding.map(({ job }) => job)) {
    const untilNext = (firstTokenAt ?? state.now) + deadlines.tpot * request.generated - state.now - stepMs;
    if (bound && untilNext >= 0) least = Math.min(least, untilNext);
  }
  return least;
}
