/**
 * The prior of answer lengths: how many tokens a share of the answers ends within, by exit, for the manifest.
 *
 * Knows: measured lengths, the manifest's text. Must not know: servers.
 */
import type { LengthQuantile } from '../../src/model/manifest.js';
import type { Length, QuestionLengths } from './ask.js';

const SHARES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98] as const;

/** What all questions' answers at an exit came to, greedy ones first. */
export function lengthsAt(exit: number, answers: readonly QuestionLengths[]): { greedy: Length[]; sampled: Length[] } {
  const of = (kind: 'greedy' | 'sampled'): Length[] => answers.flatMap((answer) => answer[kind][exit] ?? []);
  return { greedy: of('greedy'), sampled: of('sampled') };
}

/**
 * The answers that end by themselves are shorter than the cap, so a share is known unless it reaches into the cut ones.
 * Of shares with the same number of tokens the largest stays.
 * @returns rising shares with rising numbers of tokens
 */
export function quantiles(lengths: readonly Length[]): LengthQuantile[] {
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

/** A manifest's text with the prior of each exit in it, and the rest unchanged. @param text JSON of two spaces' indent */
export function withPrior(text: string, answers: readonly QuestionLengths[]): string {
  const manifest = JSON.parse(text) as { exits: ({ layer: number } & Record<string, unknown>)[] };
  const exits = manifest.exits.map((exit) => {
    const { greedy, sampled } = lengthsAt(exit.layer, answers);
    return { ...exit, lengths: { chat: quantiles([...greedy, ...sampled]) } };
  });
  return `${JSON.stringify({ ...manifest, exits }, null, 2)}\n`;
}
