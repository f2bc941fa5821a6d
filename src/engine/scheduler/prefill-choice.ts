/**
 * The rows that pause in a step, and the prompts that prefill: in order of service, as far as the stall of decoding
 * rows and the promises of rows allow.
 */
import { type ExitIndex, predictMs } from './cost/model.js';
import { at } from '../../util/at.js';
import { advanceWork, stepMsOf } from './cost/step-costs.js';
import { promises } from './promise.js';
import type { PlannedRequest } from './planned-request.js';
import { inOrder, type Snapshot } from './snapshot.js';
import type { PrefillChunk } from './types.js';

type ExitOf = (each: PlannedRequest) => ExitIndex;

const liveOf = ({ requests }: Snapshot): PlannedRequest[] => requests.filter(({ isLive }) => isLive);

/**
 * The rows without a promise that skip a step. They have had their share of the machine, and a promise would be late if
 * all live requests ran at full pace.
 */
export function pausedRows(state: Snapshot, exitOf: ExitOf): ReadonlySet<PlannedRequest> {
  const live = liveOf(state);
  const others = live.filter(({ isPromised }) => !isPromised);
  // A promise that waits for a slot gains nothing by the pause of others.
  if (others.length === 0 || others.length === live.length) return new Set();
  const found = promises(state, live, { careful: 1, exitOf, isFull: true });
  if ([...found.values()].every(({ isKept }) => isKept)) return new Set();
  const hadShare = (each: PlannedRequest): boolean => {
    const idleMs = state.now - (each.sequence.lastTokenAt ?? each.terms.arrivedAt);
    return idleMs < stepMsOf(state.costs, [exitOf(each)]) * (1 / state.policy.noBudgetShare - 1);
  };
  return new Set(others.filter((each) => !each.isPrefilling && hadShare(each)));
}

/**
 * Milliseconds until each next token of a row, while waiting prompts prefill beside it within the tokens of a sentence.
 */
export function tokenMsOf(state: Snapshot, exitOf: ExitOf): number {
  const { policy, requests } = state;
  const rows = liveOf(state).filter((each) => !each.isPrefilling || each.isReachable);
  const prompts = requests.filter((each) => each.isPrefilling && (each.isReachable || !each.hasDeadline));
  const prefillMs = prompts.reduce((sum, each) => sum + each.prefillMs(exitOf(each)), 0);
  // Chunks of prompts take at most their share of each step.
  return stepMsOf(state.costs, rows.map(exitOf)) + Math.min(prefillMs / policy.sentenceTokens, policy.maxStallMs);
}

/**
 * @param isOtherDue a prompt without a promise goes first, for its share of the machine
 * @returns one chunk of each chosen prompt or catch-up, in order of service; none where nothing is to be prefilled, or
 * where a decoding row has no time for it
 */
export function choosePrefill(
  state: Snapshot,
  exitOf: ExitOf,
  { paused, isOtherDue }: { readonly paused: ReadonlySet<PlannedRequest>; readonly isOtherDue: boolean },
): PrefillChunk[] {
  const { policy, chunk, costs } = state;
  const live = liveOf(state);
  const due = inOrder(live.filter((each) => each.remainingPrefill(exitOf(each)) > 0));
  const rows = live.filter((each) => !due.includes(each) && !paused.has(each));
  const isDated = state.requests.some(({ hasDeadline }) => hasDeadline);
  const { maxStallMs, prefillShare } = policy;
  // Where rows alone take most of maxStallMs, prompts get their share.
  const share = (stepMsOf(costs, rows.map(exitOf)) * prefillShare) / (1 - prefillShare);
  const pacedMs = untilTokenMs(state, rows, exitOf);
  const stallMs = Math.min(isDated ? maxStallMs : Math.max(maxStallMs, share), pacedMs);
  const other = isOtherDue ? due.filter(({ isPromised }) => !isPromised).slice(0, 1) : [];
  const chunks: PrefillChunk[] = [];
  let ms = 0;
  for (const prompt of new Set([...other, ...due])) {
    const isFirst = chunks.length === 0;
    const gap = prompt.remainingPrefill(exitOf(prompt));
    const roomMs = isFirst && rows.length === 0 ? Infinity : stallMs - ms;
    // Small chunks cost more per position, so only the first one of a step is smaller than plans assume.
    const sizes = (isFirst ? policy.chunks : [chunk]).map((size) => Math.min(size, gap));
    const msOf = (size: number): number => chunkMs(state, prompt, exitOf(prompt), size);
    const least = isFirst && msOf(at(sizes, 0)) <= pacedMs ? at(sizes, 0) : 0;
    const positions = sizes.findLast((size) => msOf(size) <= roomMs) ?? least;
    if (positions === 0 || ms + msOf(positions) > slackMs(state, rows, prompt, exitOf)) break;
    ms += msOf(positions);
    chunks.push({ sequence: prompt.sequence, positions });
    // Beside a deadline one prompt after the other ends: prompts that share the time would all be late.
    if (positions < (isDated ? gap : Math.min(gap, chunk))) break;
  }
  return chunks;
}

/** Milliseconds of a prompt's next positions, with the margin. */
function chunkMs({ model, policy }: Snapshot, prompt: PlannedRequest, exit: ExitIndex, size: number): number {
  const upTo = prompt.target - prompt.remainingPrefill(exit) + size;
  const prefill = advanceWork(prompt.frontiers, exit, upTo, model, size);
  return predictMs(model, { decode: null, prefill }) * (1 + policy.margin);
}

/** Milliseconds until the rows' next tokens by their TPOT. It must hold at each token, since any may be the last. */
function untilTokenMs({ now, costs }: Snapshot, rows: readonly PlannedRequest[], exitOf: ExitOf): number {
  const stepMs = stepMsOf(costs, rows.map(exitOf));
  const due = rows.map(({ sequence, tpotMs }) => (sequence.firstTokenAt ?? now) + tpotMs * sequence.generated);
  // A row that is late anyway delays no prompt.
  return Math.min(...due.map((each) => each - now - stepMs).filter((ms) => ms >= 0));
}

/**
 * Milliseconds that promised rows leave to a prompt: one that is due ahead of it needs the steps that its promise
 * covers, with the prompt among the rows. A row that is late anyway delays no prompt.
 */
function slackMs(
  { now, costs }: Snapshot,
  rows: readonly PlannedRequest[],
  prompt: PlannedRequest,
  exitOf: ExitOf,
): number {
  const stepMs = stepMsOf(costs, rows.map(exitOf));
  const withMs = stepMsOf(costs, [...rows, prompt].map(exitOf));
  let least = Infinity;
  for (const each of rows) {
    if (!each.isPromised || each.end === Infinity || each.dueAt > prompt.dueAt) continue;
    const leftMs = each.end - now;
    const steps = each.guaranteedSteps(exitOf(each));
    if (leftMs >= steps * stepMs) least = Math.min(least, Math.max(0, leftMs - steps * withMs));
  }
  return least;
}
