/** Samples a token from all logits of a row, without bias and penalties. */
import type { Sampling } from '../../protocol/index.js';
import { Bins } from './bins.js';
import { sampleTop } from './sampler.js';

const bins = new Bins();

/**
 * A flat row has thousands of likely tokens, so only the bin is sorted in which the draw falls, or the nucleus ends.
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
interface SentenceScanner {
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
): SentenceScanner {
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
