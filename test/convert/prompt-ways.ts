/** Ways to process the positions of a sequence behind a prompt exit. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { chunksOnly } from '../../src/engine/execution/step-batch.js';
import type { Slot } from '../../src/engine/scheduler/kv/slot.js';
import { advance } from '../engine/helper.js';
import { type Way, waysOf } from './ways.js';

/** Runs chunks whose states nothing reads, as a prompt does. */
export function inChunks(executor: Executor, slot: Slot, index: number, end: number, most: number): void {
  const exit = executor.exit(index);
  while (slot.least(exit.needed) < end)
    executor.run(chunksOnly({ slot, exit, end: Math.min(end, slot.least(exit.needed) + most) }));
}

export const WAYS: Readonly<Record<string, Way>> = {
  'chunks of 5': (executor, slot, exit, end) => {
    inChunks(executor, slot, exit, end, 5);
  },
  'states that are read': (executor, slot, exit, end) => {
    if (end > 0) advance(executor, slot, exit, end);
  },
  ...waysOf(inChunks),
};
