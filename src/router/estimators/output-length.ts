/**
 * Output length as a distribution, by exit and group of requests: a discrete hazard of ending in each band of tokens.
 *
 * An answer is evidence for each band that it passed, at the exit that it had there. An answer that was cut (deadline,
 * max_tokens, disconnect) is censored: it passed its bands and ended in none. Each level of the hierarchy shrinks to the
 * one above: key -> kind -> prior of the model. A level scales the hazard above by one ratio (proportional hazards). So few
 * answers move the whole distribution. It then learns band by band.
 */
import type { LengthGroup } from '../types.js';

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

/** Answers that the level above counts for: in the ratio of hazards, and in a single band. */
const RATIO_ANSWERS = 3;
const BAND_ANSWERS = 20;
/** An answer counts half after 700 more answers of its group. */
const FADE = 0.5 ** (1 / 700);
/** Groups that are told apart; the least recent one makes room. */
const MAX_GROUPS = 256;

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

  constructor(readonly hazard: Float64Array) {
    this.#longer[0] = 1;
    for (let k = 0; k < BANDS; k += 1) this.#longer[k + 1] = (this.#longer[k] ?? 0) * (1 - (hazard[k] ?? 0));
    for (let k = BANDS - 1; k >= 0; k -= 1) {
      const width = edge(k + 1) - edge(k);
      const area = (width * ((this.#longer[k] ?? 0) + (this.#longer[k + 1] ?? 0))) / 2;
      this.#beyond[k] = (this.#beyond[k + 1] ?? 0) + area;
    }
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

/** Tokens of an answer in order, by exit index. */
type Path = readonly { readonly exit: number; readonly tokens: number }[];

/** Evidence of one group at every exit, and the distributions that follow from it and from the level above. */
class Group {
  readonly #passed: Float64Array[];
  readonly #ended: Float64Array[];
  #known: { readonly parent: readonly LengthDistribution[]; readonly own: readonly LengthDistribution[] } | null = null;

  constructor(exits: number) {
    this.#passed = Array.from({ length: exits }, () => new Float64Array(BANDS));
    this.#ended = Array.from({ length: exits }, () => new Float64Array(BANDS));
  }

  observe(path: Path, hasEnded: boolean): void {
    this.#known = null;
    for (const counts of [...this.#passed, ...this.#ended]) counts.forEach((n, k) => (counts[k] = n * FADE));
    let at = 0;
    path.forEach(({ exit, tokens }, part) => {
      const end = at + tokens;
      const endsHere = hasEnded && part === path.length - 1;
      const [passed, ended] = [this.#passed[exit], this.#ended[exit]];
      if (passed === undefined || ended === undefined) throw new RangeError(`no exit ${exit}`);
      for (let k = bandAfter(at); at < end && k < BANDS; k += 1) {
        const until = Math.min(end, edge(k + 1));
        const isLast = endsHere && until === end;
        // A band that is passed in part counts in part; the one that the answer ends in counts whole.
        passed[k] = (passed[k] ?? 0) + (isLast ? 1 : (until - at) / (edge(k + 1) - edge(k)));
        if (isLast) ended[k] = (ended[k] ?? 0) + 1;
        at = until;
      }
    });
  }

  distributions(parent: readonly LengthDistribution[]): readonly LengthDistribution[] {
    if (this.#known?.parent === parent) return this.#known.own;
    let [ended, expected] = [RATIO_ANSWERS, RATIO_ANSWERS];
    parent.forEach(({ hazard }, exit) => {
      for (let k = 0; k < BANDS; k += 1) {
        ended += this.#ended[exit]?.[k] ?? 0;
        expected += (this.#passed[exit]?.[k] ?? 0) * (hazard[k] ?? 0);
      }
    });
    const ratio = ended / expected;
    const hazards = parent.map((above, exit) => {
      const hazard = new Float64Array(BANDS);
      let longer = 1;
      for (let k = 0; k < BANDS; k += 1) {
        const prior = 1 - (1 - (above.hazard[k] ?? 0)) ** ratio;
        // The scaled prior counts with as many answers as would reach the band.
        const weight = BAND_ANSWERS * longer + 0.2;
        hazard[k] = ((this.#ended[exit]?.[k] ?? 0) + weight * prior) / ((this.#passed[exit]?.[k] ?? 0) + weight);
        longer *= 1 - prior;
      }
      return hazard;
    });
    const own = hazards.map((hazard) => new LengthDistribution(hazard));
    this.#known = { parent, own };
    return own;
  }
}

/** Kind, then key: each level shrinks to the one above. */
function levelsOf({ kind, key }: LengthGroup): string[] {
  return key === null ? [kind] : [kind, `${kind} ${key}`];
}

export class OutputLengths {
  readonly #prior: readonly LengthDistribution[];
  /** By level, the least recent first. */
  readonly #groups = new Map<string, Group>();

  /** @param prior of chat answers, by exit; see `priorFault` */
  constructor(
    private readonly exits: number,
    prior: LengthPrior | null,
  ) {
    const byExit = prior ?? [];
    this.#prior = Array.from({ length: exits }, (_, i) => fromQuantiles(byExit[i] ?? DEFAULT_QUANTILES));
  }

  /** By exit, shallowest first. */
  of(group: LengthGroup): readonly LengthDistribution[] {
    let known = this.#prior;
    for (const level of levelsOf(group)) known = this.#groups.get(level)?.distributions(known) ?? known;
    return known;
  }

  /** Learns of an answer. @param hasEnded false for one that was cut */
  observe(group: LengthGroup, path: Path, hasEnded: boolean): void {
    if (path.length === 0) return;
    for (const level of levelsOf(group)) {
      const own = this.#groups.get(level) ?? new Group(this.exits);
      this.#groups.delete(level);
      this.#groups.set(level, own);
      own.observe(path, hasEnded);
    }
    for (const level of this.#groups.keys()) {
      if (this.#groups.size <= MAX_GROUPS) break;
      this.#groups.delete(level);
    }
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
  const hazard = new Float64Array(BANDS);
  for (let k = 0; k < BANDS; k += 1) {
    const before = longer(edge(k));
    hazard[k] = before > 0 ? 1 - longer(edge(k + 1)) / before : 1;
  }
  return new LengthDistribution(hazard);
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
