/**
 * DRY ("don't repeat yourself"): penalizes tokens that would continue a repetition, by the length of the repetition.
 *
 * Must not know: logits, sequences, exits.
 *
 * The rule is that of llama.cpp's `dry` sampler without sequence breakers. If the last n tokens occurred earlier, the
 * token that followed them there loses multiplier * base^(n - allowedLength), from n = allowedLength on. Text without
 * repetitions stays unchanged, unlike with penalties on single tokens.
 */
import type { Dry } from '../model/manifest.js';

/** Longest repetition that is measured: its penalty exceeds every logit. */
const LONGEST_MATCH_TOKENS = 64;

/**
 * Penalties of tokens that would continue a repetition.
 * @param tokens prompt and answer, up to the token to sample; a quotation of the prompt is not a repetition
 * @param start first position of the answer
 * @returns positive amounts by token id; empty without a repetition
 */
export function repetitionPenalties(
  tokens: readonly number[],
  start: number,
  { multiplier, base, allowedLength }: Dry,
): ReadonlyMap<number, number> {
  if (multiplier === 0) return new Map();
  const last = tokens.length - 1;
  const lengths = new Map<number, number>();
  for (let at = last - 1; at >= start; at--) {
    const next = tokens[at + 1];
    // A token with the largest penalty is skipped: otherwise a loop of one token would compare all positions.
    if (tokens[at] !== tokens[last] || next === undefined || lengths.get(next) === LONGEST_MATCH_TOKENS) continue;
    let length = 1;
    while (length < LONGEST_MATCH_TOKENS && at - length >= start && tokens[at - length] === tokens[last - length])
      length++;
    if (length < allowedLength) continue;
    lengths.set(next, Math.max(length, lengths.get(next) ?? 0));
  }
  return new Map([...lengths].map(([token, length]) => [token, multiplier * base ** (length - allowedLength)]));
}
