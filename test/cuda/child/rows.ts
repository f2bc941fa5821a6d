/** Rows of a decode step on `--device cuda`. */
import type { Executor } from '../../../src/engine/execution/executor.js';
import { chunksOnly, type Row } from '../../../src/engine/execution/step-batch.js';
import { openSlot } from '../../engine/helper.js';

/** Live rows at full depth. Each has two tokens, and has processed the first. */
export function liveRows(executor: Executor, count: number): Row[] {
  const exit = executor.exit(executor.units.deepest);
  return Array.from({ length: count }, (_, row) => {
    const slot = openSlot(executor, [1 + row, 2]);
    executor.run(chunksOnly({ slot, exit, end: 1 }));
    return { slot, exit };
  });
}
