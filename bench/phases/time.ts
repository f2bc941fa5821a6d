/** Time of one answer alone on the machine, from step costs. Must not know: how the answer was written. */
import { type CostModel, predictMs } from '../../src/cost/model.js';

/** Most positions of a prefill chunk, as the server's default. */
const CHUNK = 128;

/**
 * Milliseconds from the start of the prompt to the end of each token, with catch-ups where the exit gets deeper.
 * @param exits exit index of each token
 */
export function tokenTimes(model: CostModel, promptTokens: number, exits: readonly number[]): number[] {
  const { shape } = model;
  const stages = shape.stages.map(() => 0);
  const blocks = shape.exits.map(() => 0);
  let ms = 0;
  return exits.map((exit, index) => {
    const end = promptTokens + index;
    const last = shape.exits[exit]?.stage ?? 0;
    const lacking = (context: number) => ({ exit, context, positions: end - 1 - context, chunk: CHUNK });
    for (let stage = 0; stage <= last; stage++) {
      const work = { ...lacking(stages[stage] ?? 0), from: stage, to: stage + 1 };
      ms += predictMs(model, { decode: null, prefill: work.positions > 0 ? [work] : [] });
      stages[stage] = end;
    }
    // Beyond the last stage only the exit's block is left.
    const block = { ...lacking(blocks[exit] ?? 0), from: last + 1 };
    ms += predictMs(model, { decode: null, prefill: block.positions > 0 ? [block] : [] });
    blocks[exit] = end;
    const rows = shape.exits.map((_, each) => (each === exit ? 1 : 0));
    ms += predictMs(model, { decode: { rows, context: end }, prefill: [] });
    return ms;
  });
}
