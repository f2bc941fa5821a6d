/**
 * Advances the stages of one slot to a position. Prefill, catch-up and verification are calls of this primitive.
 *
 * Must not know: requests, sampling, scheduling.
 */
import type { PrefillRunner } from '../../model/prefill-runner.js';
import type { StageKernel } from '../../model/manifest.js';
import type { HeadRunner } from '../../model/head-runner.js';
import type { States } from '../../model/head.js';
import type { Stage, StagedModel } from '../../model/staged-model.js';
import type { Slot } from '../slots/slot.js';
import type { ExitUnits, Units } from './units.js';

/** Selects the kernel that a unit runs for a number of rows and positions of past. */
export type KernelChoice = (unit: number, mode: 'decode' | 'prefill', rows: number, context: number) => StageKernel;

/** The parts that prefill runs on. */
export interface PrefillContext {
  readonly model: StagedModel;
  readonly units: Units<Stage>;
  readonly runner: PrefillRunner;
  readonly head: HeadRunner;
  readonly kernel: KernelChoice;
}

export interface PrefillResult {
  /** New positions, which the first stage processed. */
  readonly prefilled: number;
  /** Catch-up: positions that a deeper stage or a block processed without the first stage. */
  readonly caughtUp: number;
  /** The exit's hidden states of the positions that its last unit processed. */
  readonly output: States | null;
}

/**
 * Advances every unit that `exit` needs to `end` positions.
 * @param end at most the slot's tokens, and at most one chunk beyond the least frontier of those units
 * @throws RangeError beyond that: the buffers hold one chunk
 */
export function runPrefill(context: PrefillContext, slot: Slot, exit: ExitUnits, end: number): PrefillResult {
  const { model, units, runner, head, kernel } = context;
  const start = slot.least(exit.needed);
  if (end - start > model.limits.maxChunk || end > slot.tokens.length)
    throw new RangeError(`positions ${start} to ${end} exceed a chunk or the tokens of the slot`);
  const prefilled = Math.max(0, end - slot.length);
  let widest = 0;
  let output: PrefillResult['output'] = null;
  /** Address of the states that the previous stage just wrote, and their first position. */
  let fresh: { address: bigint; start: number } | null = null;

  if (prefilled > 0) {
    fresh = { address: runner.scratch(0), start: slot.length };
    runner.embed(slot.tokens.slice(slot.length, end), fresh.address);
  }
  for (const unit of exit.needed) {
    const stage = units.stages[unit];
    const start = slot.frontier(unit);
    const count = end - start;
    if (!stage || count <= 0) continue;
    const { boundary } = stage.entry;
    const isBlock = unit >= units.trunk;
    const input: bigint =
      fresh?.start === start && !isBlock ? fresh.address : stored(model, boundary, slot.index, start);
    const next = boundary + 1;
    const address: bigint =
      !isBlock && mustStore(context, slot, exit, unit) ? stored(model, next, slot.index, start) : runner.scratch(next);
    runner.stage(stage, kernel(unit, 'prefill', count, start), slot.index, start, count, input, address);
    slot.reach(unit, end);
    widest = Math.max(widest, count);
    if (!isBlock) fresh = { address, start };
    const toHead = (first: number, rows: number): void => {
      head.logitsOf(address + BigInt((first - start) * model.hiddenBytes), rows, exit.norm);
    };
    const read = (position: number): Float32Array => {
      const state = new Float32Array(model.hiddenBytes / 4);
      model.device.download(address + BigInt((position - start) * model.hiddenBytes), new Uint8Array(state.buffer));
      return state;
    };
    output = { start, end, toHead, read };
  }
  return { prefilled, caughtUp: Math.max(0, widest - prefilled), output };
}

/**
 * Whether a trunk stage's output must survive the call: an exit block reads its boundary, or the next stage does not
 * process the same positions right away.
 */
function mustStore({ model, units }: PrefillContext, slot: Slot, exit: ExitUnits, stage: number): boolean {
  const boundary = stage + 1;
  if (!model.boundaries[boundary]) return false;
  if (units.branched[boundary]) return true;
  return stage === exit.stage || slot.frontier(stage + 1) !== slot.frontier(stage);
}

/** Address of a stored hidden state. */
function stored(model: StagedModel, boundary: number, slot: number, position: number): bigint {
  const store = model.boundaries[boundary];
  if (!store) throw new RangeError(`boundary ${boundary} has no hidden-state cache`);
  return store.address(slot, position);
}
