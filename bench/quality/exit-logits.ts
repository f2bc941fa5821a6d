/** All logits of a text at every exit, through the engine's own graphs. */
import { Executor } from '../../src/engine/execution/executor.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import { chunksOnly } from '../../src/engine/execution/step-batch.js';
import type { States } from '../../src/engine/model/head.js';
import { engineOptions } from '../options.js';

/** Rows per run of the head, whose logits share one buffer. */
const BATCH_ROWS = 32;

/** An exit's prediction at one position. */
export interface Prediction {
  readonly logits: Float32Array;
  readonly lse: number;
  /** The most likely token. */
  readonly top: number;
  /** Negative log-probability of the text's own next token. */
  readonly nll: number;
}

/** Loads a folder for texts of up to `tokens` tokens. */
export async function openExecutor(modelDir: string, tokens: number, threads: number): Promise<Executor> {
  const limits = { kvMemoryBytes: 2 ** 30, maxRunning: BATCH_ROWS, maxQueue: 0, prefillChunk: tokens };
  return new Executor(await loadModel(engineOptions(modelDir, threads, limits)));
}

/**
 * Visits each position of a text except the last, at each exit.
 * @param exits indices, shallowest first: in this order each exit's states come directly from the stage before it
 */
export function visitExits(
  executor: Executor,
  tokens: readonly number[],
  exits: readonly number[],
  visit: (exit: number, position: number, prediction: Prediction) => void,
): void {
  const { head, table } = executor;
  const slot = table.slots.find(({ live, length }) => !live && length === 0);
  if (slot === undefined) throw new Error('no slot is free');
  slot.live = true;
  slot.tokens = [...tokens];
  for (const exit of exits) {
    const read = (states: States): void => {
      for (let first = 0; first < tokens.length - 1; first += BATCH_ROWS) {
        const rows = Math.min(BATCH_ROWS, tokens.length - 1 - first);
        for (let row = 0; row < rows; row++) head.targets[row] = BigInt(tokens[first + row + 1] ?? 0);
        head.inverseTemperatures.fill(1, 0, rows);
        states.toHead(first, rows);
        head.choose(0, rows);
        for (let row = 0; row < rows; row++) {
          const { ids, lse, target } = head.selected(row);
          visit(exit, first + row, { logits: head.fullLogits(row), lse, top: Number(ids[0]), nll: lse - target });
        }
      }
    };
    executor.run(chunksOnly({ slot, exit: executor.exit(exit), end: tokens.length, read }));
  }
  table.drop(slot);
}
