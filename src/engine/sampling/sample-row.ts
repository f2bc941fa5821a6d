/**
 * Samples the token of a row: from its largest logits, from those that rules change, or from all.
 *
 * Must not know: sequences, tensors.
 */
import { applyMask } from '../constraint.js';
import type { Sampling } from '../../protocol/index.js';
import { changesLogits } from '../../protocol/request.js';
import { adjust, sampleTop, type TokenCounts, type TopLogits } from './sampler.js';

/** Share of the probability that must be left after changes: rounding of the log-sum-exp decides no draw then. */
const LEAST_MASS = 0.05;

/** More tokens than this take longer to sort than all take in bins. */
const MOST_KNOWN = 1000;

/**
 * Samples a row: from its largest logits and those that bias and penalties change, or from all where others may decide.
 * @param top the largest logits, without the changes; of equal ones, those of the lowest ids
 * @param all copies all logits, without the changes
 * @param mask 1 for tokens that may come, by id; null: all may
 * @returns null if no token is possible
 */
export function sampleRow(
  top: TopLogits,
  all: () => Float32Array,
  sampling: Sampling,
  counts: () => TokenCounts,
  mask: Uint8Array | null,
  u: number,
): number | null {
  if (!changesLogits(sampling) && mask === null)
    return sampleTop(top, sampling, u) ?? sampleAll(all(), sampling, u, top.lseT);
  const logits = all();
  const needsMass = sampling.temperature > 0 && sampling.topK === 0;
  const exp = (logit: number): number => Math.exp(logit / sampling.temperature - top.lseT);
  let mass = 1;
  const last = top.values.length - 1;
  const lastId = Number(top.ids[last]);
  const floor = top.values[last] ?? NaN;
  // Every other logit is at most `floor`.
  const known = new Set(Array.from(top.ids, Number));
  adjust(logits, sampling, counts(), (id, from, to) => {
    if (needsMass) mass += exp(to) - exp(from);
    if (to >= floor) known.add(id);
  });
  if (mask !== null) applyMask(logits, mask);
  const lseT = needsMass && mask === null && mass >= LEAST_MASS ? top.lseT + Math.log(mass) : null;
  if ((needsMass && lseT === null) || known.size > MOST_KNOWN) return sampleAll(logits, sampling, u, lseT);
  const largest: [id: number, logit: number][] = [];
  for (const id of known) {
    const logit = logits[id] ?? NaN;
    if (logit > floor || (logit === floor && id <= lastId)) largest.push([id, logit]);
  }
  largest.sort(([a, x], [b, y]) => y - x || a - b);
  const ids = largest.map(([id]) => id);
  const values = largest.map(([, logit]) => logit);
  // With top_k or without a temperature, any constant works.
  const changed = { ids, values, lseT: lseT ?? (values[0] ?? 0) / (sampling.temperature || 1) };
  return (ids.length > 0 ? sampleTop(changed, sampling, u) : null) ?? sampleAll(logits, sampling, u, lseT);
}

/** Bits for a token id below its logit's sort key, so that both fit one exact number. */
const ID_BITS = 20;
/** A bin holds the logits with equal upper 16 bits of their keys. */
const BINS = 2 ** 16;

/** Maps the bits of a float to an unsigned 32-bit key that falls while the float rises. */
function falling(bits: number): number {
  return bits >= 2 ** 31 ? bits : 2 ** 31 - 1 - bits;
}

const EXCLUDED = falling(new Uint32Array(new Float32Array([-Infinity]).buffer)[0] ?? NaN) >>> 16;

/** The bins of the row that was filled last. Bin 0 would hold the largest logits. */
class Bins {
  /** Ids by bin, ascending in each. */
  #ids = new Uint32Array(0);
  #binOf = new Uint16Array(0);
  #bits: Uint32Array = new Uint32Array(0);
  /** Where each bin ends in `#ids`, behind a leading 0. */
  readonly #ends = new Uint32Array(BINS + 1);

  /** @returns number of possible tokens: those above -Infinity */
  fill(logits: Float32Array): number {
    const count = logits.length;
    if (this.#ids.length < count) {
      this.#ids = new Uint32Array(count);
      this.#binOf = new Uint16Array(count);
    }
    const bits = new Uint32Array(logits.buffer, logits.byteOffset, count);
    const ids = this.#ids;
    const binOf = this.#binOf;
    const ends = this.#ends.fill(0);
    for (let id = 0; id < count; id++) {
      const bin = falling(bits[id] ?? 0) >>> 16;
      binOf[id] = bin;
      ends[bin + 1] = (ends[bin + 1] ?? 0) + 1;
    }
    // Each entry becomes the begin of its bin, and its end once all ids have their places.
    let begin = 0;
    for (let bin = 0; bin < BINS; bin++) {
      const size = ends[bin + 1] ?? 0;
      ends[bin + 1] = begin;
      begin += size;
    }
    for (let id = 0; id < count; id++) {
      const entry = (binOf[id] ?? 0) + 1;
      const place = ends[entry] ?? 0;
      ids[place] = id;
      ends[entry] = place + 1;
    }
    this.#bits = bits;
    return ends[EXCLUDED] ?? 0;
  }

  /** Bins that hold possible tokens, largest logits first. */
  *filled(): Generator<Uint32Array> {
    for (let bin = 0; bin < EXCLUDED; bin++) {
      const begin = this.#ends[bin] ?? 0;
      const end = this.#ends[bin + 1] ?? 0;
      if (end > begin) yield this.#ids.subarray(begin, end);
    }
  }

  /**
   * Sorts ids by their logits, descending; of equal logits, the lower id first. Logit and id form one number, because
   * native sorting of numbers is several times faster than sorting with a comparison function.
   */
  sorted(ids: ArrayLike<number>): number[] {
    const keys = Float64Array.from(ids, (id) => falling(this.#bits[id] ?? 0) * 2 ** ID_BITS + id);
    return Array.from(keys.sort(), (key) => key % 2 ** ID_BITS);
  }
}

const bins = new Bins();

/**
 * Samples from all logits, without bias and penalties. A flat row has thousands of likely tokens, so only the bin is
 * sorted in which the draw falls, or the nucleus ends.
 * @param u uniform in [0, 1)
 * @param lse log-sum-exp of all logits divided by the temperature; null: unknown
 * @returns the token that sorting all would give, or null if no token is possible
 */
export function sampleAll(logits: Float32Array, sampling: Sampling, u: number, lse: number | null): number | null {
  const possible = bins.fill(logits);
  if (possible === 0) return null;
  const { temperature, topK } = sampling;
  if (temperature > 0 && topK === 0) return drawn(logits, sampling, u, lse);
  const count = temperature === 0 ? 1 : Math.min(topK, possible);
  const first: number[] = [];
  for (const ids of bins.filled()) {
    for (const id of ids) first.push(id);
    if (first.length >= count) break;
  }
  const ids = bins.sorted(first).slice(0, count);
  const values = ids.map((id) => logits[id] ?? -Infinity);
  // Probabilities are relative to the kept tokens: any constant works.
  return sampleTop({ ids, values, lseT: (values[0] ?? 0) / (temperature || 1) }, { ...sampling, topK: count }, u);
}

/** A place in the order of a row. */
interface Place {
  /** Mass of the tokens above it. */
  readonly mass: number;
  /** The token at it; null: it lies behind all tokens. */
  readonly id: number | null;
  /** The token above it. */
  readonly last: number | null;
}

/**
 * Walks down the row, by bins until `isIn` says that the place lies in one, and by tokens in it.
 * @param masses of the bins, as far as a walk came
 */
function walk(
  p: (id: number) => number,
  masses: number[],
  isIn: (mass: number, ids: Uint32Array) => boolean,
  isAt: (mass: number, p: number) => boolean,
): Place {
  let mass = 0;
  let last: number | null = null;
  let index = 0;
  for (const ids of bins.filled()) {
    const own = (masses[index++] ??= ids.reduce((sum, id) => sum + p(id), 0));
    if (!isIn(mass + own, ids)) {
      mass += own;
      last = ids.at(-1) ?? null;
      continue;
    }
    for (const id of bins.sorted(ids)) {
      if (isAt(mass, p(id))) return { mass, id, last };
      mass += p(id);
      last = id;
    }
  }
  return { mass, id: null, last };
}

function drawn(
  logits: Float32Array,
  { temperature, topP, minP }: Sampling,
  u: number,
  lse: number | null,
): number | null {
  const lseT = lse ?? lseOf(logits, 1 / temperature);
  const p = (id: number): number => Math.exp((logits[id] ?? -Infinity) / temperature - lseT);
  const masses: number[] = [];
  let kept = 1;
  if (topP < 1 || minP > 0) {
    let least: number | null = null;
    kept = walk(
      p,
      masses,
      (mass, ids) => mass >= topP || least === null || ids.some((id) => p(id) < (least ?? 0)),
      (mass, p) => {
        if (least !== null) return p < least || mass >= topP;
        least = minP * p;
        return false;
      },
    ).mass;
  }
  const target = u * kept;
  const { id, last } = walk(
    p,
    masses,
    (mass) => mass > target,
    (mass, p) => mass + p > target,
  );
  // Rounding may leave a remainder behind the last token.
  return id ?? last;
}

function lseOf(logits: Float32Array, inverse: number): number {
  let best = -Infinity;
  for (const logit of logits) if (logit > best) best = logit;
  let sum = 0;
  for (const logit of logits) {
    const below = (logit - best) * inverse;
    // The rest adds less than the rounding of the sum.
    if (below > -40) sum += Math.exp(below);
  }
  return best * inverse + Math.log(sum);
}
