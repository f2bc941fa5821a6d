/**
 * One decode step for a batch: every row one position, each leaving at its own exit.
 *
 * Knows: the cascade over slots, which rows are valid in which unit. Must not know: sampling, scheduling.
 *
 * The batch of stage s is the slots [0, n_s). Rows in that range that do not need the stage (another sequence's
 * prefill, a stored prefix, an empty slot, a shallower exit) compute garbage into their own frontier's position, which
 * is beyond everything valid and is written again before it is read.
 */
import type { DecodeRunner } from '../../model/decode-runner.js';
import type { HeadRunner } from '../../model/head-runner.js';
import type { StagedModel } from '../../model/staged-model.js';
import type { KernelChoice } from './run-prefill.js';
import type { Slot } from '../slots/slot.js';
import type { SlotTable } from '../slots/slot-table.js';
import type { ExitUnits, Units } from './units.js';

/** A row to decode: all units that its exit needs have processed all of its tokens but the last. */
export interface DecodeRow {
  readonly slot: Slot;
  readonly exit: ExitUnits;
}

/**
 * Runs the batch and leaves the logits of rows[i] as row i of the head runner.
 * @returns how many valid rows each trunk stage ran
 */
export function runDecode(
  model: StagedModel,
  units: Units,
  table: SlotTable,
  runner: DecodeRunner,
  head: HeadRunner,
  rows: readonly DecodeRow[],
  kernel: KernelChoice,
): number[] {
  const reach = (uses: (row: DecodeRow) => boolean): number =>
    rows.reduce((most, row) => (uses(row) ? Math.max(most, row.slot.index + 1) : most), 0);

  const width = reach(() => true);
  runner.ids.fill(0n, 0, width);
  for (const { slot } of rows) runner.ids[slot.index] = BigInt(slot.tokens.at(-1) ?? 0);
  runner.embed(width);

  const stageRows: number[] = [];
  const headRow = new Map(rows.map((row, index) => [row.slot, index]));
  for (let stage = 0; stage < units.trunk; stage++) {
    const count = reach(({ exit }) => exit.stage >= stage);
    if (count === 0) break;
    const longest = setPasts(table, runner, stage, 0, count);
    runner.stage(stage, kernel(stage, 'decode', count, longest), count, longest);
    const boundary = stage + 1;
    const store = model.boundaries[boundary] ?? null;
    const here = rows.filter(({ exit }) => exit.stage >= stage);
    stageRows.push(here.length);
    for (const { slot, exit } of here) {
      const position = slot.frontier(stage);
      if (store && (units.branched[boundary] || exit.stage === stage))
        model.device.copy(store.address(slot.index, position), runner.hidden(boundary, slot.index), model.hiddenBytes);
    }
    runBlocks(
      model,
      units,
      table,
      runner,
      head,
      headRow,
      here.filter(({ exit }) => exit.stage === stage),
      kernel,
    );
    for (const { slot } of here) slot.reach(stage, slot.frontier(stage) + 1);
  }
  rows.forEach(({ exit }, index) => (head.norms[index] = BigInt(exit.norm)));
  head.logits(rows.length);
  return stageRows;
}

/** Takes the rows that leave at one boundary to the head, through their exit block where they have one. */
function runBlocks(
  model: StagedModel,
  units: Units,
  table: SlotTable,
  runner: DecodeRunner,
  head: HeadRunner,
  headRow: ReadonlyMap<Slot, number>,
  leaving: readonly DecodeRow[],
  kernel: KernelChoice,
): void {
  const block = leaving.find(({ exit }) => exit.block !== null)?.exit.block ?? null;
  const stage = block === null ? undefined : units.stages[block];
  if (block !== null && stage) {
    const indices = leaving.map(({ slot }) => slot.index);
    const first = Math.min(...indices);
    const count = Math.max(...indices) - first + 1;
    const longest = setPasts(table, runner, block, first, count);
    runner.block(stage, kernel(block, 'decode', count, longest), first, count, longest);
    for (const { slot } of leaving) slot.reach(block, slot.frontier(block) + 1);
  }
  for (const { slot, exit } of leaving) {
    const source = stage ? runner.blockOutput(slot.index) : runner.hidden(exit.stage + 1, slot.index);
    model.device.copy(head.input(headRow.get(slot) ?? 0), source, model.hiddenBytes);
  }
}

/** Writes each row's past for a unit: its own frontier there. @returns the longest */
function setPasts(table: SlotTable, runner: DecodeRunner, unit: number, first: number, count: number): number {
  let longest = 0;
  for (let row = first; row < first + count; row++) {
    const past = table.at(row).frontier(unit);
    runner.pasts[row] = past;
    longest = Math.max(longest, past);
  }
  return longest;
}
