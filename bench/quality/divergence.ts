/** Distance between two distributions of the next token: KL divergence, top-1 agreement, perplexity of a text. */

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
