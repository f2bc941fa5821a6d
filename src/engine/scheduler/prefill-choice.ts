/**
 * The rows that pause in a step, and the prompts that prefill: in order of service, as far as the stall of decoding
 * rows and the promises of rows allow.
 */
import { type ExitIndex, at, deepestOf, predictMs } from './cost/model.js';
import { advanceWork, promptMs } from './cost/step-costs.js';
import type { Exits } from './exit-choice.js';
import { plannedChunk } from './policy.js';
import { latePromises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { type Snapshot, serviceOrder } from './snapshot.js';
import type { PrefillChunk } from './types.js';

const liveOf = ({ requests }: Snapshot): PlannedRequest[] => requests.filter(({ isLive }) => isLive);

/** Whether a promise would be late if all live requests ran at full pace. */
export function isTight(state: Snapshot, exits: Exits): boolean {
  const live = liveOf(state);
  // A promise that waits for a slot gains nothing by the pause of others.
  if (!live.some(({ isPromised }) => isPromised) || live.every(({ isPromised }) => isPromised)) return false;
  return latePromises(state, 1, new Map([...exits].filter(([each]) => each.isLive)), true).size > 0;
}

/** Rows without a promise that have had their share. */
export function rowsWithShare(state: Snapshot, exitOf: Chosen['exitOf']): PlannedRequest[] {
  return liveOf(state).filter((each) => {
    if (each.isPromised || each.isPrefilling) return false;
    const idleMs = state.now - (each.sequence.lastTokenAt ?? each.terms.arrivedAt);
    return idleMs < state.stepOf([exitOf(each)]) * (1 / state.policy.noBudgetShare - 1);
  });
}

/**
 * Milliseconds until each next token of a row, while waiting prompts prefill beside it within the tokens of a sentence.
 */
export function tokenMsOf(state: Snapshot, exits: Exits): number {
  const exitOf = (each: PlannedRequest): ExitIndex => exits.get(each) ?? each.currentExit;
  const rows = liveOf(state).filter((each) => !each.isPrefilling || each.isReachable);
  const stepMs = state.stepOf(rows.map(exitOf)) * (1 + state.policy.margin);
  let prefillMs = 0;
  for (const each of state.requests) {
    if (each.isPrefilling && (each.isReachable || !each.hasDeadline)) prefillMs += each.prefillMs(exitOf(each));
  }
  // Chunks of prompts take at most their share of each step.
  return stepMs + Math.min(prefillMs / state.policy.sentenceTokens, state.policy.maxStallMs);
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
  const { model, policy, now } = state;
  const [first] = chunks;
  const prompt = state.requests.find(({ sequence }) => sequence.id === first?.id);
  if (prompt !== undefined && first !== undefined && !prompt.isPromised) {
    const prefill = advanceWork(prompt.frontiers, prompt.currentExit, first.positions, model, first.positions);
    return now + predictMs(model, { decode: null, prefill }) / policy.noBudgetShare;
  }
  const chunk = plannedChunk(policy);
  return dueAt ?? now + promptMs(model, deepestOf(model.shape), chunk, chunk) / policy.noBudgetShare;
}

/** The exits in force in the step, and the sequences that skip it. */
export interface Chosen {
  readonly exitOf: (planned: PlannedRequest) => ExitIndex;
  readonly paused: ReadonlySet<PlannedRequest>;
}

/**
 * @param isOtherDue whether a prompt without a promise goes first, for its share of the machine
 * @returns one chunk of each chosen prompt, in order of service; none where nothing is to be prefilled, or where a
 * decoding row has no time for it
 */
export function choosePrefill(state: Snapshot, chosen: Chosen, isOtherDue: boolean, isTight: boolean): PrefillChunk[] {
  const { policy } = state;
  const left = (each: PlannedRequest): number => each.remainingPrefill(chosen.exitOf(each));
  const live = liveOf(state);
  const due = serviceOrder(live.filter((each) => each.isPrefilling && left(each) > 0));
  // Where a promise has no slack, promises go first.
  const prompts = isTight ? [...new Set([...due.filter(({ isPromised }) => isPromised), ...due])] : due;
  const decoding = live.filter((each) => !prompts.includes(each) && !chosen.paused.has(each));
  const other = isOtherDue ? prompts.find(({ isPromised }) => !isPromised) : undefined;
  const ordered = other === undefined ? prompts : [other, ...prompts.filter((each) => each !== other)];
  const stallMs = longestStall(state, chosen, decoding);
  const chunks: PrefillChunk[] = [];
  let ms = 0;
  for (const prompt of ordered) {
    const isFirst = chunks.length === 0;
    if (!isFirst && followsAnother(prompt)) continue;
    const gap = left(prompt);
    const msOf = (positions: number): number => chunkMs(state, prompt, chosen, positions);
    const slackMs = stepSlack(state, chosen, decoding, prompt);
    const roomMs = Math.min(isFirst && decoding.length === 0 ? Infinity : stallMs, slackMs) - ms;
    // Small chunks cost more per position, so only the first one of a step is smaller than plans assume.
    const sizes = (isFirst ? policy.chunks : [plannedChunk(policy)]).map((size) => Math.min(size, gap));
    const least = isFirst && msOf(at(sizes, 0)) <= slackMs ? at(sizes, 0) : 0;
    const positions = sizes.findLast((size) => msOf(size) <= roomMs) ?? least;
    if (positions === 0) break;
    ms += msOf(positions);
    chunks.push({ id: prompt.sequence.id, positions });
    // Beside a deadline one prompt after the other ends: prompts that share the time would all be late.
    const enough = state.hasDeadlines ? gap : Math.min(gap, plannedChunk(policy));
    if (positions < enough || followsAnother(prompt)) break;
  }
  return chunks;
}

/** Whether another prompt is expected to compute a prefix of this one. */
function followsAnother({ expectedFrontiers, frontiers }: PlannedRequest): boolean {
  if (expectedFrontiers === frontiers) return false;
  return Array.from(expectedFrontiers).some((positions, unit) => positions > (frontiers[unit] ?? 0));
}

/**
 * Longest stall of decoding rows by the chunks of a step, ms. On a slow machine, a step of the rows alone may take most
 * of `maxStallMs`; prompts then still get their share.
 */
function longestStall(state: Snapshot, { exitOf }: Chosen, rows: readonly PlannedRequest[]): number {
  const { maxStallMs, prefillShare } = state.policy;
  if (state.hasDeadlines) return maxStallMs;
  return Math.max(maxStallMs, (state.stepOf(rows.map(exitOf)) * prefillShare) / (1 - prefillShare));
}

/** Milliseconds of a prompt's next positions, with the margin. */
function chunkMs({ model, policy }: Snapshot, prompt: PlannedRequest, chosen: Chosen, positions: number): number {
  const exit = chosen.exitOf(prompt);
  const upTo = prompt.target - prompt.remainingPrefill(exit) + positions;
  const prefill = advanceWork(prompt.frontiers, exit, upTo, model, positions);
  return predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
}

/**
 * Milliseconds that the decoding rows leave to a prompt in this step. The TPOT of a row must hold at its next token,
 * since any token may be the last. A promised row that is due before the prompt needs the steps that its promise
 * covers. A row that is late anyway delays no prompt.
 */
function stepSlack(state: Snapshot, chosen: Chosen, rows: readonly PlannedRequest[], prompt: PlannedRequest): number {
  const { now, policy } = state;
  const stepMs = state.stepOf(rows.map(chosen.exitOf));
  // Prompts join the rows when they end.
  const fullMs = state.stepOf(liveOf(state).map(chosen.exitOf)) * (1 + policy.margin);
  let least = Infinity;
  for (const each of rows) {
    const { hasDeadline, isPromised, deadlines, sequence } = each;
    if (!hasDeadline) continue;
    const untilNext = (sequence.firstTokenAt ?? now) + deadlines.tpotMs * sequence.generated - now - stepMs;
    if (untilNext >= 0) least = Math.min(least, untilNext);
    if (!isPromised || deadlines.end === Infinity || each.dueAt > prompt.dueAt) continue;
    const leftMs = deadlines.end - now;
    const steps = each.guaranteedSteps(chosen.exitOf(each));
    if (leftMs >= steps * stepMs) least = Math.min(least, Math.max(0, leftMs - steps * fullMs));
  }
  return least;
}
