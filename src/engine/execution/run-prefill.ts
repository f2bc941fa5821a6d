/**
 * Runs the units of one slot up to a position. Prefill, catch-up and verification are calls of this primitive.
 *
 * Must not know: requests, sampling, scheduling.
 */
import type { PrefillRunner } from '../model/prefill-runner.js';
import type { HeadRunner } from '../model/head-runner.js';
import type { States } from '../model/head.js';
import type { Stage, StagedModel } from '../model/staged-model.js';
import type { ExitUnits, Units } from '../scheduler/kv/units.js';
import type { KernelChoice } from './kernels.js';
import type { Frontier, Span } from './step-batch.js';

/** The parts that prefill and decode run on. */
export interface SlotParts {
  readonly model: StagedModel;
  readonly units: Units<Stage>;
  readonly head: HeadRunner;
  readonly kernel: KernelChoice;
}

export interface PrefillContext extends SlotParts {
  readonly runner: PrefillRunner;
}

/**
 * Runs every unit that the span's exit needs up to its end.
 * @param tokens those of the slot up to the end of the span, at least
 * @param reads whether the states are read. Otherwise layers behind a prompt exit make their keys and values alone.
 * @returns the exit's states of the positions that its last unit processed; null where no unit lacked any, or made keys
 * alone
 */
export function runPrefill(
  context: PrefillContext,
  span: Span,
  tokens: readonly number[],
  frontier: Frontier,
  reads: boolean,
): States | null {
  const { model, units, runner, kernel } = context;
  const { slot, exit, end } = span;
  const from = exit.needed.map((unit) => frontier(slot, unit));
  const [length = 0] = from;
  let states: States | null = null;
  /** Address of the states that the previous stage just wrote, and their first position. */
  let fresh: { address: bigint; start: number } | null = null;

  if (end > length) {
    fresh = { address: runner.scratch(0), start: length };
    runner.embed(tokens.slice(length, end), fresh.address);
  }
  for (const [place, unit] of exit.needed.entries()) {
    const stage = units.stages[unit];
    const start = from[place] ?? end;
    const count = end - start;
    if (!stage || count <= 0) continue;
    const { boundary } = stage.entry;
    const isBlock = unit >= units.trunkStages;
    const input: bigint =
      fresh?.start === start && !isBlock ? fresh.address : stored(model, boundary, slot.index, start);
    const choice = kernel(unit, 'prefill', count, start);
    const next = boundary + 1;
    if (stage.keys !== undefined && !reads) {
      runner.keys(stage, choice, slot.index, start, count, input);
      states = null;
      continue;
    }
    const isStored = !isBlock && mustStore(context, exit, unit, frontier(slot, unit + 1) !== start);
    const address: bigint = isStored ? stored(model, next, slot.index, start) : runner.scratch(next);
    runner.stage(stage, choice, slot.index, start, count, input, address);
    if (!isBlock) fresh = { address, start };
    states = statesAt(context, exit.norm, address, start, end);
  }
  return states;
}

/**
 * Whether a trunk stage's output must survive the call: an exit block reads its boundary, or the next stage does
 * not process the same positions right away.
 */
function mustStore({ model, units }: PrefillContext, exit: ExitUnits, stage: number, isNextApart: boolean): boolean {
  const boundary = stage + 1;
  if (!model.boundaries[boundary]) return false;
  return units.feedsBlock[boundary] === true || stage === exit.stage || isNextApart;
}

/** States of positions [start, end) that lie one behind the other in memory. */
function statesAt({ model, head }: SlotParts, norm: number, address: bigint, start: number, end: number): States {
  const at = (position: number): bigint => address + BigInt((position - start) * model.hiddenBytes);
  return {
    start,
    end,
    toHead: (first, rows) => {
      head.logitsOf(at(first), rows, norm);
    },
    read: (position) => {
      const state = new Float32Array(model.hiddenBytes / 4);
      model.device.download(at(position), new Uint8Array(state.buffer));
      return state;
    },
  };
}

/** Address of a stored hidden state. */
function stored(model: StagedModel, boundary: number, slot: number, position: number): bigint {
  const store = model.boundaries[boundary];
  if (!store) throw new RangeError(`boundary ${boundary} has no hidden-state cache`);
  return store.address(slot, position);
}
