/**
 * The rows that pause in a step, and the prompts that prefill: in order of service, as far as the stall of decoding
 * rows and the promises of rows allow.
 */
import { type ExitIndex, deepestOf, predictMs } from './cost/model.js';
import { at } from '../../util/at.js';
import { advanceWork, promptMs } from './cost/step-costs.js';
import { isBroken, promises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, type Snapshot } from './snapshot.js';
import type { PrefillChunk } from './types.js';

type ExitOf = (each: PlannedRequest) => ExitIndex;

const liveOf = ({ requests }: Snapshot): PlannedRequest[] => requests.filter(({ isLive }) => isLive);

/** Whether a promise would be late if all live requests ran at full pace. */
export function isTight(state: Snapshot, exitOf: ExitOf): boolean {
  const live = liveOf(state);
  // A promise that waits for a slot gains nothing by the pause of others.
  if (!live.some(({ isPromised }) => isPromised) || live.every(({ isPromised }) => isPromised)) return false;
  return [...promises(state, live, { careful: 1, exitOf, isFull: true }).values()].some(isBroken);
}

/** Rows without a promise that have had their share. */
export function rowsWithShare(state: Snapshot, exitOf: ExitOf): PlannedRequest[] {
  return liveOf(state).filter((each) => {
    if (each.isPromised || each.isPrefilling) return false;
    const idleMs = state.now - (each.sequence.lastTokenAt ?? each.terms.arrivedAt);
    return idleMs < at(state.oneRowMs, exitOf(each)) * (1 / state.policy.noBudgetShare - 1);
  });
}

/**
 * Milliseconds until each next token of a row, while waiting prompts prefill beside it within the tokens of a sentence.
 */
export function tokenMsOf(state: Snapshot, exitOf: ExitOf): number {
  const { policy, requests } = state;
  const rows = liveOf(state).filter((each) => !each.isPrefilling || each.isReachable);
  let prefillMs = 0;
  for (const each of requests)
    if (each.isPrefilling && (each.isReachable || !each.hasDeadline)) prefillMs += each.prefillMs(exitOf(each));
  // Chunks of prompts take at most their share of each step.
  const stepMs = state.stepOf(rows.map(exitOf)) * (1 + policy.margin);
  return stepMs + Math.min(prefillMs / policy.sentenceTokens, policy.maxStallMs);
}

/**
 * When the next prompt without a promise is due beside promises. Beside them, such a prompt earns `noBudgetShare` of
 * the time, and spends it on chunks. Without the share, a request without a budget waits 9.9 s instead of 2.7 s for its
 * first token beside tight budgets of its own key (test/scheduler/answers.test.ts).
 * @param dueAt as of the last step, or null
 * @param chunks of the step; none where it is still to be planned
 */
export function shareDueAt(state: Snapshot, dueAt: number | null, chunks: readonly PrefillChunk[]): number | null {
  if (!state.requests.some(({ isPromised }) => isPromised)) return null;
  const { model, policy, now, chunk } = state;
  const [first] = chunks;
  const prompt = state.requests.find(({ sequence }) => sequence.id === first?.id);
  if (prompt !== undefined && first !== undefined && !prompt.isPromised) {
    const prefill = advanceWork(prompt.frontiers, prompt.currentExit, first.positions, model, first.positions);
    return now + predictMs(model, { decode: null, prefill }) / policy.noBudgetShare;
  }
  return dueAt ?? now + promptMs(model, deepestOf(model.shape), chunk, chunk) / policy.noBudgetShare;
}

/** The step as far as it is decided. */
export interface Chosen {
  readonly exitOf: ExitOf;
  /** Sequences that skip it. */
  readonly paused: ReadonlySet<PlannedRequest>;
  /** A prompt without a promise goes first, for its share of the machine. */
  readonly isOtherDue: boolean;
  /** A promise has no slack: promises go first. */
  readonly isTight: boolean;
}

/**
 * @returns one chunk of each chosen prompt or catch-up, in order of service; none where nothing is to be prefilled, or
 * where a decoding row has no time for it
 */
export function choosePrefill(state: Snapshot, chosen: Chosen): PrefillChunk[] {
  const { policy, chunk } = state;
  const live = liveOf(state);
  const due = inOrder(live.filter((each) => each.remainingPrefill(chosen.exitOf(each)) > 0)).all;
  if (due.length === 0) return [];
  const isDated = state.requests.some(({ hasDeadline }) => hasDeadline);
  const step = new StepRoom(
    state,
    chosen.exitOf,
    live.filter((each) => !due.includes(each) && !chosen.paused.has(each)),
    isDated,
  );
  const chunks: PrefillChunk[] = [];
  let ms = 0;
  for (const prompt of ordered(due, chosen)) {
    const isFirst = chunks.length === 0;
    const gap = prompt.remainingPrefill(chosen.exitOf(prompt));
    const slackMs = step.slackMs(prompt);
    const roomMs = Math.min(isFirst && step.isEmpty ? Infinity : step.stallMs, slackMs) - ms;
    // Small chunks cost more per position, so only the first one of a step is smaller than plans assume.
    const sizes = (isFirst ? policy.chunks : [chunk]).map((size) => Math.min(size, gap));
    const least = isFirst && step.chunkMs(prompt, at(sizes, 0)) <= slackMs ? at(sizes, 0) : 0;
    const positions = sizes.findLast((size) => step.chunkMs(prompt, size) <= roomMs) ?? least;
    if (positions === 0) break;
    ms += step.chunkMs(prompt, positions);
    chunks.push({ id: prompt.sequence.id, positions });
    // Beside a deadline one prompt after the other ends: prompts that share the time would all be late.
    if (positions < (isDated ? gap : Math.min(gap, chunk))) break;
  }
  return chunks;
}

/** @param due prompts in order of service */
function ordered(due: readonly PlannedRequest[], { isOtherDue, isTight }: Chosen): readonly PlannedRequest[] {
  const other = isOtherDue ? due.find(({ isPromised }) => !isPromised) : undefined;
  const promised = isTight ? due.filter(({ isPromised }) => isPromised) : [];
  return [...new Set([...(other === undefined ? [] : [other]), ...promised, ...due])];
}

/** The time that the decoding rows of a step leave to prompts. */
class StepRoom {
  readonly #stepMs: number;
  /** Longest stall by the chunks of the step. Where rows alone take most of `maxStallMs`, prompts get their share. */
  readonly stallMs: number;

  constructor(
    private readonly state: Snapshot,
    private readonly exitOf: ExitOf,
    private readonly rows: readonly PlannedRequest[],
    isDated: boolean,
  ) {
    const { maxStallMs, prefillShare } = state.policy;
    this.#stepMs = state.stepOf(rows.map(exitOf));
    this.stallMs = isDated ? maxStallMs : Math.max(maxStallMs, (this.#stepMs * prefillShare) / (1 - prefillShare));
  }

  get isEmpty(): boolean {
    return this.rows.length === 0;
  }

  /** Milliseconds of a prompt's next positions, with the margin. */
  chunkMs(prompt: PlannedRequest, positions: number): number {
    const { model, policy } = this.state;
    const exit = this.exitOf(prompt);
    const upTo = prompt.target - prompt.remainingPrefill(exit) + positions;
    const prefill = advanceWork(prompt.frontiers, exit, upTo, model, positions);
    return predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
  }

  /**
   * Milliseconds that the rows leave to a prompt. The TPOT of a row must hold at its next token, since any token may be
   * the last. A promised row that is due ahead of the prompt needs the steps that its promise covers, with the prompt
   * among the rows. A row that is late anyway delays no prompt.
   */
  slackMs(prompt: PlannedRequest): number {
    const { now, policy } = this.state;
    const withMs = this.state.stepOf([...this.rows, prompt].map(this.exitOf)) * (1 + policy.margin);
    let least = Infinity;
    for (const each of this.rows) {
      if (!each.hasDeadline) continue;
      const { firstTokenAt, generated } = each.sequence;
      const untilNext = (firstTokenAt ?? now) + each.tpotMs * generated - now - this.#stepMs;
      if (untilNext >= 0) least = Math.min(least, untilNext);
      if (!each.isPromised || each.end === Infinity || each.dueAt > prompt.dueAt) continue;
      const leftMs = each.end - now;
      const steps = each.guaranteedSteps(this.exitOf(each));
      if (leftMs >= steps * this.#stepMs) least = Math.min(least, Math.max(0, leftMs - steps * withMs));
    }
    return least;
  }
}
