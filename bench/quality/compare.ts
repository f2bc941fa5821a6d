/** Compares a model's exits with the full depth of a reference: KL divergence, top-1 agreement, perplexity of a text. */
import type { Executor } from '../../src/engine/execution/executor.js';
import { visitExits } from './exit-logits.js';

/** A reference's distribution of the next token, prepared for many comparisons. */
export interface Distribution {
  readonly probabilities: Float32Array;
  /** Sum of p log p, nats. */
  readonly negativeEntropy: number;
  /** The most likely token. */
  readonly top: number;
}

export interface Means {
  /** Nats per position. */
  readonly kl: number;
  /** Share of positions whose most likely token is the reference's. */
  readonly agreement: number;
  /** Perplexity of the text's own next tokens. */
  readonly perplexity: number;
}

/** @param lse log-sum-exp of the logits; the token `top` has the largest of them */
export function distributionOf(logits: Float32Array, lse: number, top: number): Distribution {
  const probabilities = new Float32Array(logits.length);
  let negativeEntropy = 0;
  for (let i = 0; i < logits.length; i++) {
    const logProbability = (logits[i] ?? 0) - lse;
    const p = (probabilities[i] = Math.exp(logProbability));
    negativeEntropy += p * logProbability;
  }
  return { probabilities, negativeEntropy, top };
}

/** KL(reference || other) = sum of p log(p / q), in nats. @param lse log-sum-exp of the other's logits */
export function divergence(
  { probabilities, negativeEntropy }: Distribution,
  logits: Float32Array,
  lse: number,
): number {
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += (probabilities[i] ?? 0) * ((logits[i] ?? 0) - lse);
  return negativeEntropy - sum;
}

/** Sums over positions. */
export class Tally {
  #kl = 0;
  #agreed = 0;
  #nll = 0;
  #positions = 0;

  add(kl: number, agrees: boolean, nll: number): void {
    this.#kl += kl;
    this.#agreed += agrees ? 1 : 0;
    this.#nll += nll;
    this.#positions++;
  }

  get means(): Means {
    const n = this.#positions;
    return { kl: this.#kl / n, agreement: this.#agreed / n, perplexity: Math.exp(this.#nll / n) };
  }
}

export interface ExitResult extends Means {
  readonly layer: number;
}

const layersOf = ({ units }: Executor): number[] => units.exits.map(({ layer }) => layer);

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
