/**
 * Samples a token: pure functions over logits.
 *
 * DRY ("don't repeat yourself"): penalizes tokens that would continue a repetition, by the length of the repetition.
 *
 * The rule is that of llama.cpp's `dry` sampler without sequence breakers. If the last n tokens occurred earlier, the
 * token that followed them there loses multiplier * base^(n - allowedLength), from n = allowedLength on. Text without
 * repetitions stays unchanged, unlike with penalties on single tokens.
 *
 * Must not know: sequences, tensors.
 * The order of the rules is vLLM's: bias and penalties on logits, temperature, then top_k, top_p and min_p.
 */
import type { Sampling } from '../../protocol/index.js';
import type { Dry } from '../model/manifest.js';

/** The largest logits of a row, descending, and the log-sum-exp of all of them divided by the temperature. */
export interface TopLogits {
  readonly values: ArrayLike<number>;
  readonly ids: ArrayLike<number | bigint>;
  readonly lseT: number;
}

/** Tokens of the prompt (for the repetition penalty) and counts of the answer's tokens. */
export interface TokenCounts {
  readonly prompt: ReadonlySet<number>;
  readonly answer: ReadonlyMap<number, number>;
}

/**
 * The rules of one token: those of the request, with amounts off single logits and tokens that may not come as biases.
 * @param amounts by token id
 */
export function rulesWith(
  sampling: Sampling,
  amounts: ReadonlyMap<number, number>,
  forbidden: readonly number[],
): Sampling {
  if (amounts.size + forbidden.length === 0) return sampling;
  const lowered = Array.from(amounts, ([id, amount]) => [id, -amount] as const);
  const excluded = forbidden.map((id) => [id, -Infinity] as const);
  return { ...sampling, logitBias: [...sampling.logitBias, ...excluded, ...lowered] };
}

/** The rules of one token with an amount on the logits of tokens that end its answer. */
export function rulesUnder(sampling: Sampling, amount: number, endTokens: readonly number[]): Sampling {
  if (amount === 0) return sampling;
  const raised = endTokens.map((id) => [id, amount] as const);
  return { ...sampling, logitBias: [...sampling.logitBias, ...raised] };
}

/**
 * Samples from the largest logits, with the same result as from all logits.
 * @param u uniform in [0, 1)
 * @returns the token, or null when the draw may fall below the largest logits: then all logits decide
 * with the same u
 */
export function sampleTop(top: TopLogits, sampling: Sampling, u: number): number | null {
  const { values, ids, lseT } = top;
  const first = Number(ids[0]);
  if (sampling.temperature === 0 || sampling.topK === 1) return first;
  const known = values.length;
  const count = sampling.topK > 0 ? Math.min(sampling.topK, known) : known;
  if (sampling.topK > known) return null;
  const inverse = 1 / sampling.temperature;
  // With top_k, probabilities are relative to the kept tokens; without it, to all tokens (lseT).
  const probabilities = new Float64Array(count);
  let kept = 0;
  for (let i = 0; i < count; i++) kept += probabilities[i] = Math.exp((values[i] ?? -Infinity) * inverse - lseT);
  const total = sampling.topK > 0 ? kept : 1;
  const cut = nucleus(probabilities, total, sampling);
  const complete = sampling.topK > 0 || cut.closed;
  // The tokens kept by top_p or min_p reach below the known logits, so their total mass is unknown.
  if (!complete && (sampling.topP < 1 || sampling.minP > 0)) return null;
  const mass = complete ? cut.mass : total;
  let left = u * mass;
  for (let i = 0; i < cut.count; i++) {
    left -= probabilities[i] ?? 0;
    if (left < 0) return Number(ids[i]);
  }
  // Rounding of u * mass may leave a remainder after the last token of a complete set.
  return complete ? Number(ids[cut.count - 1]) : null;
}

/**
 * Bias and penalties, in place (OpenAI's additive penalties; CTRL's multiplicative repetition penalty).
 * @param changed called for each change; a token can have several
 */
export function adjust(
  logits: Float32Array,
  sampling: Sampling,
  counts: TokenCounts,
  changed: (id: number, from: number, to: number) => void = () => undefined,
): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = sampling;
  const change = (id: number, rule: (logit: number) => number): void => {
    const from = logits[id];
    if (from === undefined) return;
    logits[id] = rule(from);
    changed(id, from, logits[id]);
  };
  if (repetitionPenalty !== 1) {
    const rule = (logit: number): number => (logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty);
    for (const id of new Set([...counts.prompt, ...counts.answer.keys()])) change(id, rule);
  }
  if (presencePenalty !== 0 || frequencyPenalty !== 0)
    for (const [id, count] of counts.answer) change(id, (logit) => logit - presencePenalty - frequencyPenalty * count);
  for (const [id, bias] of logitBias) change(id, (logit) => logit + bias);
}

/** Number and mass of the probabilities that top_p and min_p keep; `closed` if no token below them can be kept. */
function nucleus(
  probabilities: Float64Array,
  total: number,
  { topP, minP }: Sampling,
): { count: number; mass: number; closed: boolean } {
  const least = minP * (probabilities[0] ?? 0);
  let mass = 0;
  for (let i = 0; i < probabilities.length; i++) {
    const p = probabilities[i] ?? 0;
    if (i > 0 && (p < least || mass >= topP * total)) return { count: i, mass, closed: true };
    mass += p;
  }
  return { count: probabilities.length, mass, closed: topP < 1 && mass >= topP * total };
}

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
