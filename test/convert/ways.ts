/** Ways through an engine that leave a sequence with the same positions. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { chunksOnly } from '../../src/engine/execution/step-batch.js';
import type { Slot } from '../../src/engine/scheduler/kv/units.js';
import { advance, decodeRows, openSlot } from '../engine/helper.js';

/** A way to process the positions in front of the last one. */
export type Way = (executor: Executor, slot: Slot, exit: number, end: number) => void;

/** Runs the positions up to `end` in chunks of at most `most`. */
export type InChunks = (executor: Executor, slot: Slot, exit: number, end: number, most: number) => void;

/**
 * Decodes one token behind each number of positions, four in one step, each in a slot of its own.
 * @param measure the distance of logits from those that belong to ends[i]
 * @returns the largest distance
 */
export function worstOf(
  executor: Executor,
  exit: number,
  ids: readonly number[],
  ends: readonly number[],
  way: Way,
  measure: (logits: Float32Array, i: number) => number,
): number {
  let worst = 0;
  for (let first = 0; first < ends.length; first += 4) {
    const rows = ends.slice(first, first + 4).map((end) => {
      const slot = openSlot(executor, ids.slice(0, end + 1));
      way(executor, slot, exit, end);
      return { slot, exit: executor.exit(exit) };
    });
    decodeRows(executor, rows);
    for (const [row, { slot }] of rows.entries()) {
      worst = Math.max(worst, measure(executor.head.fullLogits(row).slice(), first + row));
      executor.table.drop(slot);
    }
  }
  return worst;
}

/** Ways of any way to run chunks. */
export function waysOf(inChunks: InChunks): Readonly<Record<string, Way>> {
  return {
    'one chunk': (executor, slot, exit, end) => {
      inChunks(executor, slot, exit, end, 128);
    },
    decode: (executor, slot, exit, end) => {
      const { tokens } = slot;
      for (let length = 1; length <= end; length++) {
        slot.tokens = tokens.slice(0, length);
        decodeRows(executor, [{ slot, exit: executor.exit(exit) }]);
      }
      slot.tokens = tokens;
    },
    rollback: (executor, slot, exit, end) => {
      const { tokens } = slot;
      const kept = Math.floor(end / 2);
      slot.tokens = [...tokens.slice(0, kept), ...tokens.toReversed()].slice(0, end + 1);
      inChunks(executor, slot, exit, end, 128);
      slot.truncate(kept);
      slot.tokens = tokens;
      inChunks(executor, slot, exit, end, 128);
    },
    'a copied prefix': (executor, slot, exit, end) => {
      const source = openSlot(executor, slot.tokens);
      inChunks(executor, source, exit, end, 128);
      executor.table.copyPrefix(source, slot, Math.floor(end / 2));
      executor.table.drop(source);
      inChunks(executor, slot, exit, end, 7);
    },
  };
}

/** Runs chunks whose states nothing reads, as a prompt does. */
export function inChunks(executor: Executor, slot: Slot, index: number, end: number, most: number): void {
  const exit = executor.exit(index);
  while (slot.least(exit.needed) < end)
    executor.run(chunksOnly({ slot, exit, end: Math.min(end, slot.least(exit.needed) + most) }));
}

/** Ways to process the positions of a sequence behind a prompt exit. */
export const WAYS: Readonly<Record<string, Way>> = {
  'chunks of 5': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, end, 5);
  },
  'states that are read': (executor, slot, exit, end) => {
    if (end > 0) advance(executor, slot, exit, end);
  },
  ...waysOf(inChunks),
};
