/** The prior of answer lengths for the manifest: by exit, the number of tokens within which a share of answers ends. */
import type { LengthQuantile } from '../../src/engine/model/manifest.js';

/** The length of one answer. */
export interface Length {
  readonly exit: number;
  readonly kind: 'greedy' | 'sampled';
  readonly tokens: number;
  /** Whether the answer reached the cap, instead of its own end. */
  readonly isCut: boolean;
}

const SHARES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98] as const;

/**
 * Answers that the model ends are shorter than the cap, so a share is known unless it reaches into the cut answers. Of
 * several shares with the same number of tokens, the largest is kept.
 * @returns increasing shares with increasing numbers of tokens
 */
export function quantiles(lengths: readonly Pick<Length, 'tokens' | 'isCut'>[]): LengthQuantile[] {
  const ended = lengths
    .filter(({ isCut }) => !isCut)
    .map(({ tokens }) => tokens)
    .sort((a, b) => a - b);
  const pairs = SHARES.flatMap((share): LengthQuantile[] => {
    const tokens = ended[Math.ceil(share * lengths.length) - 1];
    return tokens === undefined ? [] : [[share, tokens]];
  });
  return pairs.filter(([, tokens], i) => tokens !== pairs[i + 1]?.[1]);
}

/** Adds the prior of each exit to a manifest's text. @param text JSON with an indent of two spaces */
export function withPrior(text: string, lengths: readonly Length[]): string {
  const manifest = JSON.parse(text) as { exits: ({ layer: number } & Record<string, unknown>)[] };
  const exits = manifest.exits.map((entry) => ({
    ...entry,
    lengths: { chat: quantiles(lengths.filter(({ exit }) => exit === entry.layer)) },
  }));
  return `${JSON.stringify({ ...manifest, exits }, null, 2)}\n`;
}
