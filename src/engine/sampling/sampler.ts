/**
 * Choosing a token: pure functions over logits.
 *
 * Knows: sampling rules (temperature, top_k, top_p, min_p, penalties, bias). Must not know: sequences, tensors.
 * The order of the rules is vLLM's: bias and penalties on logits, temperature, then top_k, top_p and min_p.
 */
import type { Sampling } from '../protocol.js';

/** The most likely token, nothing else. */
export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: null,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  logitBias: [],
};

/** The largest logits of a row, falling, and the log-sum-exp of all of them divided by the temperature. */
export interface TopLogits {
  readonly values: ArrayLike<number>;
  readonly ids: ArrayLike<number | bigint>;
  readonly lseT: number;
}

/** How often each token occurred: in the prompt (repetition penalty only) and in the answer. */
export interface TokenCounts {
  readonly prompt: ReadonlySet<number>;
  readonly answer: ReadonlyMap<number, number>;
}

/** Whether a request changes logits one by one, so that the top of the unchanged ones can't decide. */
export function needsAllLogits(sampling: Sampling): boolean {
  return (
    sampling.presencePenalty !== 0 ||
    sampling.frequencyPenalty !== 0 ||
    sampling.repetitionPenalty !== 1 ||
    sampling.logitBias.length > 0
  );
}

/**
 * Samples from the top logits alone, exactly as from all of them.
 * @param u uniform in [0, 1)
 * @returns the token, or null when the draw may fall below the known top: then `sampleFull` decides with the same u
 */
export function sampleTop(top: TopLogits, sampling: Sampling, u: number): number | null {
  const { values, ids, lseT } = top;
  const first = Number(ids[0]);
  if (sampling.temperature === 0 || sampling.topK === 1) return first;
  const known = values.length;
  const count = sampling.topK > 0 ? Math.min(sampling.topK, known) : known;
  if (sampling.topK > known) return null;
  const inverse = 1 / sampling.temperature;
  // With top_k, probabilities are relative to the kept tokens; without, to all (lseT).
  const probabilities = new Float64Array(count);
  let kept = 0;
  for (let i = 0; i < count; i++) kept += probabilities[i] = Math.exp((values[i] ?? -Infinity) * inverse - lseT);
  const total = sampling.topK > 0 ? kept : 1;
  const cut = nucleus(probabilities, total, sampling);
  const complete = sampling.topK > 0 || cut.closed;
  // What top_p or min_p keep in all ends below the known top: its mass is unknown.
  if (!complete && (sampling.topP < 1 || sampling.minP > 0)) return null;
  const mass = complete ? cut.mass : total;
  let left = u * mass;
  for (let i = 0; i < cut.count; i++) {
    left -= probabilities[i] ?? 0;
    if (left < 0) return Number(ids[i]);
  }
  // Rounding of u * mass may leave a crumb after the last token of a complete set.
  return complete ? Number(ids[cut.count - 1]) : null;
}

/** Tokens that are sorted at first where no top_k says how many; few draws need more. */
const FIRST_SORTED = 256;

/**
 * Samples from all logits of a row. Sorts no more of them than the draw needs: as many as top_k keeps, or the largest
 * few hundred, then eight times as many until the draw falls among them.
 * @param logits changed in place
 * @returns null where no token is possible
 */
export function sampleFull(logits: Float32Array, sampling: Sampling, counts: TokenCounts, u: number): number | null {
  adjust(logits, sampling, counts);
  const possible = fillBins(logits);
  if (possible === 0) return null;
  const kept = { ...sampling, topK: Math.min(sampling.topK, possible) };
  const inverse = sampling.temperature === 0 ? 1 : 1 / sampling.temperature;
  const greedy = sampling.temperature === 0 || kept.topK === 1;
  const first = greedy ? 1 : kept.topK || FIRST_SORTED;
  let lseT: number | null = null;
  for (let count = first; ; count *= 8) {
    const ids = largest(logits, count);
    const values = ids.map((id) => logits[id] ?? -Infinity);
    const best = (values[0] ?? 0) * inverse;
    // With top_k, probabilities are relative to the kept ones: any constant does.
    lseT ??= greedy || kept.topK > 0 ? best : best + Math.log(sumOfExp(logits, inverse, best));
    // Once all are sorted, nothing can be kept below them.
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

/** How many of the falling probabilities top_p and min_p keep, and whether tokens below them can't be kept. */
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

/** Room for a token id below the order of its logit in one exact number. */
const ID_BITS = 20;

/** The bits of a float turned round so that they fall while it rises, 32 bits unsigned. */
function falling(bits: number): number {
  return bits >= 2 ** 31 ? bits : 2 ** 31 - 1 - bits;
}

/** How many logits have each value of the upper half of `falling`; of the row that `fillBins` saw last. */
const bins = new Uint32Array(2 ** 16);

/** @returns how many tokens are possible at all */
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
 * The ids of the `least` largest logits, falling (of equal ones the lower id first), and of those that share a bin with
 * the last of them. Logit and id become one number, because sorting numbers natively is several times faster than
 * calling a comparison.
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
