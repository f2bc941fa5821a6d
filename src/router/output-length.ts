/**
 * Output length as a distribution, by exit and kind of request: the model's prior, with its hazard of ending scaled by one
 * ratio for each kind (proportional hazards). The ratio is of the answers that ended to those that would have by the
 * prior. An answer that was cut or landed is censored: it passed its tokens and did not end.
 */
import type { LengthGroup } from './types.js';

/** By exit, shallowest first: [share of answers, tokens within which that share ended], both rising. */
export type LengthPrior = readonly (readonly (readonly [number, number])[])[];

/** Without a measured prior: half of the answers end within 100 tokens, a tenth runs beyond 450. */
export const DEFAULT_QUANTILES: LengthPrior[number] = [
  [0.1, 15],
  [0.25, 40],
  [0.5, 100],
  [0.75, 220],
  [0.9, 450],
];

/** Answers that the prior counts for. */
const PRIOR_ANSWERS = 3;
/** An answer counts half after 700 more answers of its kind. */
const FADE = 0.5 ** (1 / 700);

/** Longest length that is told apart, tokens. */
const LONGEST = 1 << 17;
/** Bounds of the bands, tokens: band k is (EDGES[k], EDGES[k + 1]], an eighth of a doubling wide. */
const EDGES: readonly number[] = (() => {
  const edges = [0];
  for (let k = 0, edge = 0; edge < LONGEST; k += 1) edges.push((edge = Math.max(edge + 1, Math.round(2 ** (k / 8)))));
  return edges;
})();
const BANDS = EDGES.length - 1;
/** Band of the token after so many. */
const BAND_AFTER = (() => {
  const bands = new Uint16Array(LONGEST + 1).fill(BANDS - 1);
  for (let k = 0; k < BANDS; k += 1) bands.fill(k, EDGES[k], EDGES[k + 1]);
  return bands;
})();

const bandAfter = (tokens: number): number => BAND_AFTER[Math.min(LONGEST, Math.floor(tokens))] ?? BANDS - 1;
const edge = (k: number): number => EDGES[k] ?? LONGEST;

/** The distribution at one exit. All lengths are whole answers, tokens that were emitted already included. */
export class LengthDistribution {
  /** By edge: share of answers that are longer, and mean tokens beyond the edge times that share. */
  readonly #longer = new Float64Array(BANDS + 1);
  readonly #beyond = new Float64Array(BANDS + 1);

  /** @param longer share of answers that are longer than so many tokens, from 1 at 0 */
  constructor(longer: (tokens: number) => number) {
    for (let k = 0; k <= BANDS; k += 1) this.#longer[k] = longer(edge(k));
    for (let k = BANDS - 1; k >= 0; k -= 1) {
      const width = edge(k + 1) - edge(k);
      const area = (width * ((this.#longer[k] ?? 0) + (this.#longer[k + 1] ?? 0))) / 2;
      this.#beyond[k] = (this.#beyond[k + 1] ?? 0) + area;
    }
  }

  /** The same with so many times the hazard of ending at each token. */
  scaled(ratio: number): LengthDistribution {
    return new LengthDistribution((tokens) => this.longerThan(tokens) ** ratio);
  }

  /** Share of all answers that are longer than so many tokens. */
  longerThan(tokens: number): number {
    const k = bandAfter(tokens);
    const from = edge(k);
    const share = Math.min(1, (tokens - from) / (edge(k + 1) - from));
    const at = this.#longer[k] ?? 0;
    return at + ((this.#longer[k + 1] ?? 0) - at) * share;
  }

  /** Mean tokens still to come after `generated`, at least one, at most up to `most`. */
  meanLeft(generated: number, most: number): number {
    const longer = this.longerThan(generated);
    if (longer < 1e-9) return Math.min(1, most - generated);
    return Math.max(Math.min(1, most - generated), (this.#area(generated) - this.#area(most)) / longer);
  }

  /** Length that a share of the answers that are longer than `generated` does not exceed, at most `most`. */
  quantile(share: number, generated: number, most: number): number {
    const aim = (1 - share) * this.longerThan(generated);
    let low = bandAfter(generated);
    let high = bandAfter(most);
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#longer[middle + 1] ?? 0) <= aim) high = middle;
      else low = middle + 1;
    }
    const from = this.#longer[low] ?? 0;
    const to = this.#longer[low + 1] ?? 0;
    const start = edge(low);
    const width = edge(low + 1) - start;
    const tokens = from <= aim ? start : from > to ? start + (width * (from - aim)) / (from - to) : start + width;
    return Math.min(most, Math.max(generated + 1, Math.ceil(tokens)));
  }

  /** Integral of `longerThan` from so many tokens on. */
  #area(tokens: number): number {
    const k = bandAfter(tokens);
    const to = edge(k + 1);
    if (tokens >= to) return 0;
    return (this.#beyond[k + 1] ?? 0) + ((to - tokens) * (this.longerThan(tokens) + (this.#longer[k + 1] ?? 0))) / 2;
  }
}

/** Answers of one kind: how many ended, and how many would have by the prior; each fades. */
interface Evidence {
  readonly ended: number;
  readonly expected: number;
  /** By exit: the prior, scaled. */
  readonly lengths: readonly LengthDistribution[];
}

export class OutputLengths {
  readonly #prior: readonly LengthDistribution[];
  readonly #kinds = new Map<LengthGroup['kind'], Evidence>();

  /** @param prior of chat answers, by exit; see `priorFault` */
  constructor(exits: number, prior: LengthPrior | null) {
    this.#prior = Array.from({ length: exits }, (_, i) => fromQuantiles(prior?.[i] ?? DEFAULT_QUANTILES));
  }

  /** By exit, shallowest first. */
  of(kind: LengthGroup['kind']): readonly LengthDistribution[] {
    return this.#kinds.get(kind)?.lengths ?? this.#prior;
  }

  /** Learns of an answer. @param exit index of its last exit @param hasEnded false for one that was cut or landed */
  observe(kind: LengthGroup['kind'], exit: number, tokens: number, hasEnded: boolean): void {
    const prior = this.#prior[exit];
    if (prior === undefined) throw new RangeError(`no exit ${exit}`);
    if (tokens === 0) return;
    const known = this.#kinds.get(kind) ?? { ended: PRIOR_ANSWERS, expected: PRIOR_ANSWERS };
    const ended = PRIOR_ANSWERS + (known.ended - PRIOR_ANSWERS) * FADE + (hasEnded ? 1 : 0);
    const passed = -Math.log(Math.max(1e-9, prior.longerThan(tokens)));
    const expected = PRIOR_ANSWERS + (known.expected - PRIOR_ANSWERS) * FADE + passed;
    this.#kinds.set(kind, { ended, expected, lengths: this.#prior.map((each) => each.scaled(ended / expected)) });
  }
}

/** Survival that is linear in log tokens between the quantiles; beyond the last, the same rate a doubling. */
function fromQuantiles(quantiles: LengthPrior[number]): LengthDistribution {
  const points = [[0, 0.5] as const, ...quantiles].map(
    ([share, tokens]) => [Math.log(tokens), Math.log(1 - share)] as const,
  );
  const longer = (tokens: number): number => {
    if (tokens <= 0) return 1;
    const x = Math.log(tokens);
    let i = 1;
    while (i < points.length - 1 && (points[i]?.[0] ?? Infinity) < x) i += 1;
    const [x0, y0] = points[i - 1] ?? [0, 0];
    const [x1, y1] = points[i] ?? [1, 0];
    return Math.exp(Math.min(0, y0 + ((y1 - y0) * (x - x0)) / (x1 - x0)));
  };
  return new LengthDistribution(longer);
}

/** The measured prior of a model folder; null where an exit has none. */
export function lengthPriorOf(manifest: {
  readonly exits: readonly { readonly lengths?: { readonly chat: readonly (readonly number[])[] } | undefined }[];
}): LengthPrior | null {
  const prior = manifest.exits.flatMap(({ lengths }) =>
    lengths === undefined ? [] : [lengths.chat.map(([share = NaN, tokens = NaN]) => [share, tokens] as const)],
  );
  return prior.length === manifest.exits.length ? prior : null;
}

/** The fault of a prior for so many exits, or null. With a fault the router serves with the default prior. */
export function priorFault(prior: LengthPrior, exits: number): string | null {
  if (prior.length !== exits) return `has ${prior.length} exits, the model ${exits}`;
  for (const quantiles of prior) {
    let [share, tokens] = [0, 0.5];
    if (quantiles.length === 0) return 'has an exit without quantiles';
    for (const [nextShare, nextTokens] of quantiles) {
      if (!(nextShare > share && nextShare < 1))
        return `has the share ${nextShare} after ${share}; shares rise from 0 to 1`;
      if (!(nextTokens > tokens && nextTokens <= 1 << 17))
        return `has ${nextTokens} tokens after ${tokens}; tokens rise`;
      [share, tokens] = [nextShare, nextTokens];
    }
  }
  return null;
}
