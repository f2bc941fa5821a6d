/** Compares a model's exits with a reference: with its full depth, and with its same exit in another kernel. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { type Distribution, distributionOf, divergence, type Means, Tally } from './divergence.js';
import { visitExits } from './exit-logits.js';

export interface ExitResult {
  readonly layer: number;
  /** Compared with the reference's full depth. */
  readonly full: Means;
  /** Compared with the reference's same exit, which shows the cost of the kernel; null without --kernel-cost. */
  readonly kernel: Means | null;
}

const layersOf = ({ units: { exits, deepest } }: Executor): number[] =>
  exits.slice(0, deepest + 1).map(({ layer }) => layer);

/**
 * Measures the documents one after another.
 * @param kernelCost whether to compare each exit with the reference's same exit as well
 * @param progress called after each document with the number of finished documents
 * @throws Error if the two models are not comparable
 */
export function compare(
  model: Executor,
  reference: Executor,
  documents: readonly (readonly number[])[],
  kernelCost: boolean,
  progress: (done: number) => void,
): ExitResult[] {
  const layers = layersOf(model);
  checkComparable(model, reference, kernelCost);
  const last = layersOf(reference).length - 1;
  const full = layers.map(() => new Tally());
  const kernel = layers.map(() => new Tally());
  documents.forEach((tokens, index) => {
    const expected = new Map<number, Distribution[]>();
    visitExits(reference, tokens, kernelCost ? indices(layers) : [last], (exit, position, { logits, lse, top }) => {
      let positions = expected.get(exit);
      if (!positions) expected.set(exit, (positions = []));
      positions[position] = distributionOf(logits, lse, top);
    });
    visitExits(model, tokens, indices(layers), (exit, position, { logits, lse, top, nll }) => {
      const add = (tally: Tally | undefined, distribution: Distribution | undefined): void => {
        if (distribution) tally?.add(divergence(distribution, logits, lse), top === distribution.top, nll);
      };
      add(full[exit], expected.get(last)?.[position]);
      if (kernelCost) add(kernel[exit], expected.get(exit)?.[position]);
    });
    progress(index + 1);
  });
  return layers.map((layer, exit) => ({
    layer,
    full: (full[exit] ?? new Tally()).means,
    kernel: kernelCost ? (kernel[exit] ?? new Tally()).means : null,
  }));
}

function checkComparable(model: Executor, reference: Executor, kernelCost: boolean): void {
  const [ours, theirs] = [model, reference].map(({ model: { manifest } }) => manifest.architecture.vocab);
  if (ours !== theirs)
    throw new Error(`--base must have the vocabulary of --model, ${ours} tokens; got one of ${theirs}`);
  const [exits, wanted] = [layersOf(reference).join(','), layersOf(model).join(',')];
  if (kernelCost && exits !== wanted)
    throw new Error(`--kernel-cost needs a --base with the exits of --model, ${wanted}; got one with ${exits}`);
}

const indices = (list: readonly unknown[]): number[] => list.map((_, index) => index);
