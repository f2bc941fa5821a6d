/**
 * How long answers get: a histogram per band of max_tokens, as a share of it, learnt online, old answers fading.
 *
 * Knows: counts of tokens. Must not know: what the tokens are. Memory is bounded: BANDS x BINS numbers.
 */

/** atLeast[band][bin]: weight of the answers in this bin or a longer one; a bin is an eighth of a doubling wide. */
export interface LengthModel {
  readonly atLeast: readonly (readonly number[])[];
}

const BANDS = 16;
const BINS = 128;
const PER_DOUBLING = 8;
/** An answer counts half after about that many more answers of its band. */
const MEMORY = 700;
/** Fewer answers than this say nothing about a quantile: plan for max_tokens. */
const ENOUGH = 20;

export const noLengths: LengthModel = {
  atLeast: Array.from({ length: BANDS }, () => new Array<number>(BINS).fill(0)),
};

const bandOf = (maxTokens: number): number => Math.min(BANDS - 1, Math.floor(Math.log2(Math.max(1, maxTokens))));
/** Bins count down from max_tokens: the last holds answers that ran into it, exactly. */
const binOf = (tokens: number, maxTokens: number): number =>
  Math.max(0, BINS - 1 - Math.ceil(Math.log2(maxTokens / Math.max(1, tokens)) * PER_DOUBLING));
/** Most tokens that fall into a bin. */
const topOf = (bin: number, maxTokens: number): number =>
  Math.max(1, Math.floor(maxTokens * 2 ** ((bin - BINS + 1) / PER_DOUBLING)));

/** Learns that an answer with this max_tokens ended by itself, or at the limit, after `tokens`. */
export function observeLength(model: LengthModel, maxTokens: number, tokens: number): LengthModel {
  const band = bandOf(maxTokens);
  const bin = binOf(Math.min(tokens, maxTokens), maxTokens);
  const fade = 0.5 ** (1 / MEMORY);
  return {
    atLeast: model.atLeast.map((row, i) =>
      i === band ? row.map((weight, j) => weight * fade + (j <= bin ? 1 : 0)) : row,
    ),
  };
}

/**
 * Total tokens to plan for, given that `generated` are there already: the quantile of what was seen to go on beyond
 * them, at least one more token, at most max_tokens.
 */
export function plannedLength(model: LengthModel, maxTokens: number, generated: number, quantile: number): number {
  const row = model.atLeast[bandOf(maxTokens)] ?? [];
  const from = generated <= 0 ? 0 : binOf(generated + 1, maxTokens);
  const total = row[from] ?? 0;
  if (quantile >= 1 || total < ENOUGH) return maxTokens;
  // The first bin beyond which no more than 1 - quantile of the answers end.
  let low = from;
  let high = BINS - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((row[middle + 1] ?? 0) <= (1 - quantile) * total) high = middle;
    else low = middle + 1;
  }
  return Math.min(maxTokens, Math.max(generated + 1, topOf(low, maxTokens)));
}
