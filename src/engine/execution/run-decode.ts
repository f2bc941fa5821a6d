/**
 * One decode step for a batch: each row runs one position and leaves at its own exit.
 *
 * Must not know: sampling, scheduling.
 *
 * The batch of stage s is the slots [0, n_s). Some rows of that range do not need the stage: another sequence's
 * prefill, a stored prefix, an empty slot, a shallower exit. Such a row computes garbage into the position of its own
 * frontier. This position lies beyond all valid ones, and is written again before it is read.
 */
import type { DecodeRunner } from '../model/decode-runner.js';
import type { Slot } from '../scheduler/kv/slot.js';
import type { SlotParts } from './run-prefill.js';
import type { Frontier, Row } from './step-batch.js';

/** The parts that decoding runs on. */
export interface DecodeContext extends SlotParts {
  /** The slot at an index. */
  readonly at: (index: number) => Slot;
  readonly runner: DecodeRunner;
  readonly frontier: Frontier;
}

/** A row of the batch, with its row in the head runner. */
interface HeadRow extends Row {
  readonly headRow: number;
}

/** Runs the batch and leaves the state and the norm of rows[i] as row i of the head runner. */
export function runDecode(context: DecodeContext, batch: readonly Row[]): void {
  const { model, units, runner, head, kernel, frontier } = context;
  const rows: HeadRow[] = batch.map(({ slot, exit }, headRow) => ({ slot, exit, headRow }));
  const reach = (uses: (row: Row) => boolean): number =>
    rows.reduce((most, row) => (uses(row) ? Math.max(most, row.slot.index + 1) : most), 0);

  const width = reach(() => true);
  runner.ids.fill(0n, 0, width);
  for (const { slot } of rows) {
    const token = slot.tokens.at(-1);
    if (token === undefined) throw new RangeError(`slot ${slot.index} has no token to decode`);
    runner.ids[slot.index] = BigInt(token);
  }
  runner.embed(width);

  for (let stage = 0; stage < units.trunkStages; stage++) {
    const count = reach(({ exit }) => exit.stage >= stage);
    if (count === 0) break;
    const longest = setPasts(context, stage, 0, count);
    runner.stage(stage, kernel(stage, 'decode', count, longest), count, longest);
    const boundary = stage + 1;
    const store = model.boundaries[boundary] ?? null;
    const here = rows.filter(({ exit }) => exit.stage >= stage);
    for (const { slot, exit } of here) {
      const position = frontier(slot, stage);
      if (store && (units.feedsBlock[boundary] || exit.stage === stage))
        model.device.copy(store.address(slot.index, position), runner.hidden(boundary, slot.index), model.hiddenBytes);
    }
    const leaving = here.filter(({ exit }) => exit.stage === stage);
    for (const block of new Set(leaving.map(({ exit }) => exit.block)))
      runBlock(
        context,
        block,
        leaving.filter(({ exit }) => exit.block === block),
      );
  }
  rows.forEach(({ exit }, index) => (head.norms[index] = BigInt(exit.norm)));
}

/** Takes the rows that leave one boundary by one way to the head: through an exit block, or without one. */
function runBlock(context: DecodeContext, block: number | null, leaving: readonly HeadRow[]): void {
  const { model, units, runner, head, kernel } = context;
  const stage = block === null ? undefined : units.stages[block];
  if (block !== null && stage) {
    const indices = leaving.map(({ slot }) => slot.index);
    const first = Math.min(...indices);
    const count = Math.max(...indices) - first + 1;
    const longest = setPasts(context, block, first, count);
    runner.block(stage, kernel(block, 'decode', count, longest), first, count, longest);
  }
  for (const { slot, exit, headRow } of leaving) {
    const source = stage ? runner.blockOutput(slot.index) : runner.hidden(exit.stage + 1, slot.index);
    model.device.copy(head.input(headRow), source, model.hiddenBytes);
  }
}

/** Writes each row's past for a unit, which is its own frontier there. @returns the longest */
function setPasts({ at, runner, frontier }: DecodeContext, unit: number, first: number, count: number): number {
  let longest = 0;
  for (let row = first; row < first + count; row++) {
    const past = frontier(at(row), unit);
    runner.pasts[row] = past;
    longest = Math.max(longest, past);
  }
  return longest;
}
