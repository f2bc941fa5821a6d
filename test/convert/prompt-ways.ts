/** Ways to process the positions of a sequence behind a prompt exit. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { chunksOnly } from '../../src/engine/execution/step-batch.js';
import type { Slot } from '../../src/scheduler/kv/slot.js';
import { advance, decodeRows, openSlot } from '../engine/helper.js';

/** A way to process the positions in front of the last one. */
export type Way = (executor: Executor, slot: Slot, exit: number, end: number) => void;

/**
 * Runs chunks whose states nothing reads, as a prompt does.
 * @param answerFrom first position of the answer; absent: behind the end
 */
export function inChunks(
  executor: Executor,
  slot: Slot,
  index: number,
  end: number,
  most: number,
  answerFrom?: number,
): void {
  const exit = executor.exit(index);
  while (slot.least(exit.needed) < end)
    executor.run(chunksOnly({ slot, exit, end: Math.min(end, slot.least(exit.needed) + most), answerFrom }));
}

export const WAYS: Readonly<Record<string, Way>> = {
  'one chunk': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, end, 128);
  },
  'chunks of 5': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, end, 5);
  },
  'states that are read': (executor, slot, exit, end) => {
    if (end > 0) advance(executor, slot, exit, end);
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
