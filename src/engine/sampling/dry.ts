/**
 * DRY ("don't repeat yourself"): makes a token less likely the longer a piece of the answer it would repeat.
 *
 * Knows: token ids. Must not know: logits, sequences, exits.
 *
 * The rule is that of llama.cpp's `dry` sampler without sequence breakers: where the last n tokens have stood before,
 * the token that followed them there loses multiplier * base^(n - allowedLength), once n is allowedLength or more.
 * Text that doesn't repeat itself is left as it is, which no penalty on single tokens does.
 */
import type { Dry } from '../../model/manifest.js';

/** No match is followed further back: its penalty is beyond every logit long before. */
const LONGEST_MATCH = 64;

/**
 * What each token that would go on with a repetition loses.
 * @param tokens prompt and answer, up to the token that is looked for; quoting the prompt is no repetition
 * @param start where the answer begins
 * @returns positive amounts by token id; empty where nothing is repeated
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
    // A token that loses the most already loses no more: a loop of one token would be compared all over.
    if (tokens[at] !== tokens[last] || next === undefined || lengths.get(next) === LONGEST_MATCH) continue;
    let length = 1;
    while (length < LONGEST_MATCH && at - length >= start && tokens[at - length] === tokens[last - length]) length++;
    if (length < allowedLength) continue;
    lengths.set(next, Math.max(length, lengths.get(next) ?? 0));
  }
  return new Map([...lengths].map(([token, length]) => [token, multiplier * base ** (length - allowedLength)]));
}
