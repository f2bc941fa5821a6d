/** Compares a model's exits with the full depth of a reference. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { type Distribution, distributionOf, divergence, type Means, Tally } from './divergence.js';
import { visitExits } from './exit-logits.js';

export interface ExitResult extends Means {
  readonly layer: number;
}

const layersOf = ({ units: { exits, deepest } }: Executor): number[] =>
  exits.slice(0, deepest + 1).map(({ layer }) => layer);

/**
 * Measures the documents one after another.
 * @param progress called after each document with the number of finished documents
 * @throws Error if the two models have different vocabularies
 */
export function compare(
  model: Executor,
  reference: Executor,
  documents: readonly (readonly number[])[],
  progress: (done: number) => void,
): ExitResult[] {
  const [ours, theirs] = [model, reference].map(({ model: { manifest } }) => manifest.architecture.vocab);
  if (ours !== theirs)
    throw new Error(`--base must have the vocabulary of --model, ${ours} tokens; got one of ${theirs}`);
  const exits = layersOf(model).map((layer) => ({ layer, tally: new Tally() }));
  const deepest = layersOf(reference).length - 1;
  documents.forEach((tokens, index) => {
    const expected: Distribution[] = [];
    visitExits(reference, tokens, [deepest], (_, position, { logits, lse, top }) => {
      expected[position] = distributionOf(logits, lse, top);
    });
    visitExits(model, tokens, [...exits.keys()], (exit, position, { logits, lse, top, nll }) => {
      const full = expected[position];
      if (full) exits[exit]?.tally.add(divergence(full, logits, lse), top === full.top, nll);
    });
    progress(index + 1);
  });
  return exits.map(({ layer, tally }) => ({ layer, ...tally.means }));
}
