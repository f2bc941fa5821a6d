/**
 * Samples a token: pure functions over logits.
 *
 * Must not know: sequences, tensors.
 * The order of the rules is vLLM's: bias and penalties on logits, temperature, then top_k, top_p and min_p.
 */
import type { Sampling } from '../protocol.js';

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

/** Whether a request changes single logits, so that the largest unchanged logits cannot decide. */
export function needsAllLogits(sampling: Sampling): boolean {
  return (
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1 ||
    sampling.logitBias.length > 0
  );
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
 * @returns the token, or null when the draw may fall below the largest logits: then `sampleFull` decides with the same u
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
 * The probability that the rules give a token.
 * @param logit the token's own logit
 * @returns a lower bound where top_p or min_p keep tokens below the largest logits
 */
export function probabilityOf(top: TopLogits, sampling: Sampling, token: number, logit: number): number {
  const { values, ids, lseT } = top;
  const place = Array.prototype.findIndex.call(ids, (id: number | bigint) => Number(id) === token);
  if (sampling.temperature === 0 || sampling.topK === 1) return place === 0 ? 1 : 0;
  const inverse = 1 / sampling.temperature;
  const count = sampling.topK > 0 ? Math.min(sampling.topK, values.length) : values.length;
  const probabilities = Float64Array.from({ length: count }, (_, i) =>
    Math.exp((values[i] ?? -Infinity) * inverse - lseT),
  );
  const total = sampling.topK > 0 ? probabilities.reduce((sum, p) => sum + p, 0) : 1;
  const cut = nucleus(probabilities, total, sampling);
  if (sampling.topK === 0 && !cut.closed) return Math.min(1, Math.exp(logit * inverse - lseT));
  return place < 0 || place >= cut.count ? 0 : (probabilities[place] ?? 0) / cut.mass;
}

/** Tokens to sort first without a top_k; few draws need more. */
const FIRST_SORTED_TOKENS = 256;

/**
 * Samples from all logits of a row. It sorts only as many as the draw needs: first top_k or FIRST_SORTED_TOKENS of them, then
 * eight times as many, until the draw falls among them.
 * @param logits changed in place
 * @returns null if no token is possible
 */
export function sampleFull(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  const possible = fillBins(logits);
  if (possible === 0) return null;
  const kept = { ...sampling, topK: Math.min(sampling.topK, possible) };
  const inverse = sampling.temperature === 0 ? 1 : 1 / sampling.temperature;
  const greedy = sampling.temperature === 0 || kept.topK === 1;
  const first = greedy ? 1 : kept.topK || FIRST_SORTED_TOKENS;
  let lseT: number | null = null;
  for (let count = first; ; count *= 8) {
    const ids = largest(logits, count);
    const values = ids.map((id) => logits[id] ?? -Infinity);
    const best = (values[0] ?? 0) * inverse;
    // With top_k, probabilities are relative to the kept tokens: any constant works.
    lseT ??= greedy || kept.topK > 0 ? best : best + Math.log(sumOfExp(logits, inverse, best));
    // With all logits sorted, no kept token lies below them.
    const rules = ids.length === possible ? { ...kept, topK: kept.topK || possible } : kept;
    const token = sampleTop({ values, ids, lseT }, rules, u);
    if (token !== null) return token;
  }
}

function sumOfExp(logits: Float32Array, inverse: number, best: number): number {
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit * inverse - best);
  return sum;
}

/** Bias and penalties, in place (OpenAI's additive penalties; CTRL's multiplicative repetition penalty). */
export function adjust(logits: Float32Array, sampling: Sampling, counts: TokenCounts): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = sampling;
  if (repetitionPenalty !== 1)
    for (const id of new Set([...counts.prompt, ...counts.answer.keys()])) {
      const logit = logits[id] ?? 0;
      logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
    }
  if (presencePenalty !== 0 || frequencyPenalty !== 0)
    for (const [id, count] of counts.answer)
      logits[id] = (logits[id] ?? 0) - presencePenalty - frequencyPenalty * count;
  for (const [id, bias] of sampling.logitBias) logits[id] = (logits[id] ?? 0) + bias;
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

/** Bits for a token id below its logit's sort key, so that both fit one exact number. */
const ID_BITS = 20;

/** Maps the bits of a float to an unsigned 32-bit key that falls while the float rises. */
function falling(bits: number): number {
  return bits >= 2 ** 31 ? bits : 2 ** 31 - 1 - bits;
}

/** Histogram of the upper 16 bits of `falling`, for the row that `fillBins` read last. */
const bins = new Uint32Array(2 ** 16);

/** @returns number of possible tokens */
function fillBins(logits: Float32Array): number {
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  bins.fill(0);
  let count = 0;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] === -Infinity) continue;
    const bin = falling(bits[id] ?? 0) >>> 16;
    bins[bin] = (bins[bin] ?? 0) + 1;
    count++;
  }
  return count;
}

/**
 * The ids of at least the `least` largest logits, descending; of equal logits, the lower id first. All logits in the bin
 * of the last one are included. Logit and id form one number, because native sorting of numbers is several times faster
 * than sorting with a comparison function.
 */
function largest(logits: Float32Array, least: number): number[] {
  let count = 0;
  let bin = 0;
  while (bin < bins.length && count < least) count += bins[bin++] ?? 0;
  const bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const keys = new Float64Array(count);
  let at = 0;
  for (let id = 0; id < logits.length && at < count; id++) {
    if (logits[id] === -Infinity) continue;
    const key = falling(bits[id] ?? 0);
    if (key >>> 16 < bin) keys[at++] = key * 2 ** ID_BITS + id;
  }
  return Array.from(keys.sort(), (key) => key % 2 ** ID_BITS);
}
