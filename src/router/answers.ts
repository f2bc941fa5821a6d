/**
 * The lengths of answers and their worth, as measured and as learned.
 *
 * The output length is a distribution, by exit and kind of request: the model's prior, with its hazard of ending scaled by
 * one ratio for each kind (proportional hazards). The ratio is of the answers that ended to those that would have by the
 * prior. An answer that was cut or landed is censored: it passed its tokens and did not end.
 *
 * The worth is the share of full depth's right answers that the exit gives, times the share that an early end keeps.
 */
import { type DepthShape, type ExitIndex, at } from '../cost/model.js';
import type { Policy } from './policy.js';
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

/** Longest length that is told apart, tokens. */
const LONGEST = 1 << 17;

/** From here to the next point, share x (tokens / here)^slope of the answers are longer than so many tokens. */
interface Point {
  readonly tokens: number;
  readonly share: number;
  readonly slope: number;
  /** Mean tokens beyond here, times the share. */
  readonly beyond: number;
}

/** The distribution at one exit. All lengths are whole answers, tokens that were emitted already included. */
export class LengthDistribution {
  readonly #points: readonly Point[];

  /** @param longer [tokens, share of answers that are longer], from [below 1, 1]; behind the last, the last slope holds */
  constructor(private readonly longer: readonly (readonly [number, number])[]) {
    const points: Point[] = [];
    let [slope, beyond, end] = [NaN, 0, LONGEST];
    for (let i = longer.length - 1; i >= 0; i -= 1) {
      const [tokens, share] = at(longer, i);
      const [nextTokens, nextShare] = longer[i + 1] ?? [NaN, NaN];
      const [beforeTokens, beforeShare] = longer[i - 1] ?? [NaN, NaN];
      slope = Number.isNaN(nextShare)
        ? slopeOf(beforeTokens, beforeShare, tokens, share)
        : slopeOf(tokens, share, nextTokens, nextShare);
      beyond += areaOf({ tokens, share, slope, beyond }, tokens, end);
      points.unshift({ tokens, share, slope, beyond });
      end = tokens;
    }
    this.#points = points;
  }

  /** The same with so many times the hazard of ending at each token. */
  scaled(ratio: number): LengthDistribution {
    return new LengthDistribution(this.longer.map(([tokens, share]) => [tokens, share ** ratio]));
  }

  /** Share of all answers that are longer than so many tokens. */
  longerThan(tokens: number): number {
    const point = at(this.#points, this.#before(tokens));
    return tokens <= point.tokens ? point.share : point.share * (tokens / point.tokens) ** point.slope;
  }

  /** Mean tokens still to come after `generated`, at least one, at most up to `most`. */
  meanLeft(generated: number, most: number): number {
    const least = Math.min(1, most - generated);
    const longer = this.longerThan(generated);
    return longer < 1e-9 ? least : Math.max(least, (this.#beyond(generated) - this.#beyond(most)) / longer);
  }

  /** Length that a share of the answers that are longer than `generated` does not exceed, at most `most`. */
  quantile(share: number, generated: number, most: number): number {
    const aim = (1 - share) * this.longerThan(generated);
    let i = 0;
    while (i + 1 < this.#points.length && at(this.#points, i + 1).share >= aim) i += 1;
    const point = at(this.#points, i);
    const tokens = point.tokens * (aim / point.share) ** (1 / point.slope);
    return Math.max(Math.min(most, generated + 1), Math.min(most, Math.ceil(tokens - 1e-9)));
  }

  /** Index of the last point up to so many tokens; the first below it. */
  #before(tokens: number): number {
    let i = 0;
    while (i + 1 < this.#points.length && at(this.#points, i + 1).tokens <= tokens) i += 1;
    return i;
  }

  #beyond(tokens: number): number {
    const i = this.#before(tokens);
    const point = at(this.#points, i);
    if (tokens <= point.tokens) return point.beyond + point.share * (point.tokens - tokens);
    return point.beyond - areaOf(point, point.tokens, Math.min(LONGEST, tokens));
  }
}

function slopeOf(x0: number, y0: number, x1: number, y1: number): number {
  return Math.log(y1 / y0) / Math.log(x1 / x0);
}

/** Tokens between two lengths behind a point, times the share of answers that have them. */
function areaOf({ tokens, share, slope }: Point, from: number, to: number): number {
  const power = slope + 1;
  if (Math.abs(power) < 1e-9) return share * tokens * Math.log(to / from);
  return ((share * tokens) / power) * ((to / tokens) ** power - (from / tokens) ** power);
}

/** The answers of a kind: how many ended, and how many would have by the prior. */
interface Evidence {
  readonly ended: number;
  readonly expected: number;
  /** By exit: the prior, scaled. */
  readonly lengths: readonly LengthDistribution[];
}

export class OutputLengths {
  readonly #prior: readonly LengthDistribution[];
  readonly #kinds = new Map<LengthGroup['kind'], Evidence>();

  /** @param prior of chat answers, by exit */
  constructor(
    exits: number,
    prior: LengthPrior | null,
    private readonly policy: Pick<Policy, 'priorAnswers' | 'answerHalfLife'>,
  ) {
    this.#prior = Array.from({ length: exits }, (_, i) => {
      const quantiles = prior?.[i] ?? DEFAULT_QUANTILES;
      return new LengthDistribution([[0.5, 1], ...quantiles.map(([share, tokens]) => [tokens, 1 - share] as const)]);
    });
  }

  /** By exit, shallowest first. */
  of(kind: LengthGroup['kind']): readonly LengthDistribution[] {
    return this.#kinds.get(kind)?.lengths ?? this.#prior;
  }

  /** Learns of an answer. @param exit of its last token @param hasEnded false for one that was cut or landed */
  observe(kind: LengthGroup['kind'], exit: ExitIndex, tokens: number, hasEnded: boolean): void {
    const prior = this.#prior[exit];
    if (prior === undefined) throw new RangeError(`no exit ${exit}`);
    if (tokens === 0) return;
    const { priorAnswers, answerHalfLife } = this.policy;
    const fade = 0.5 ** (1 / answerHalfLife);
    const known = this.#kinds.get(kind) ?? { ended: priorAnswers, expected: priorAnswers };
    const ended = priorAnswers + (known.ended - priorAnswers) * fade + (hasEnded ? 1 : 0);
    const passed = -Math.log(Math.max(1e-9, prior.longerThan(tokens)));
    const expected = priorAnswers + (known.expected - priorAnswers) * fade + passed;
    this.#kinds.set(kind, { ended, expected, lengths: this.#prior.map((each) => each.scaled(ended / expected)) });
  }
}

/** [tokens, share of the whole answers' worth that answers of at most so many tokens keep], both rising. */
export type Kept = readonly (readonly [number, number])[];

/** Without a measurement: that of the embedded model on everyday requests. */
const DEFAULT_KEPT: Kept = [
  [4, 0.05],
  [8, 0.25],
  [16, 0.55],
  [24, 0.7],
  [32, 0.79],
  [48, 0.88],
  [64, 0.92],
  [96, 0.96],
  [160, 0.99],
  [320, 1],
];

/** Points of a curve that rises in straight lines from 0 at 0, and is flat behind the last one. */
function interpolated(points: readonly (readonly [number, number])[], x: number): number {
  let [x0, y0] = [0, 0];
  for (const [x1, y1] of points) {
    if (x <= x1) return x1 > x0 ? y0 + ((y1 - y0) * Math.max(0, x - x0)) / (x1 - x0) : y1;
    [x0, y0] = [x1, y1];
  }
  return y0;
}

export class Worth {
  readonly #kept: Kept;
  readonly #right: readonly number[];
  /** [agreement, right], both rising: how audits, which measure agreement, move `right`. */
  readonly #mapping: readonly (readonly [number, number])[];

  constructor({ exits }: DepthShape, kept: Kept | null) {
    this.#kept = kept ?? DEFAULT_KEPT;
    this.#right = exits.map(({ right }) => right);
    let most = 0;
    this.#mapping = [...exits]
      .sort((a, b) => a.quality - b.quality)
      .map(({ quality, right }) => [quality, (most = Math.max(most, right))]);
  }

  /**
   * Share of full depth's right answers that an exit gives, 0..1.
   * @param agreement the exit's audited agreement; absent: the model's measurement holds
   */
  right(exit: ExitIndex, agreement?: number): number {
    return agreement === undefined ? at(this.#right, exit) : interpolated(this.#mapping, agreement);
  }

  /** Share of an answer's worth that at most so many tokens keep, 0..1. */
  kept(tokens: number): number {
    return interpolated(this.#kept, tokens);
  }
}
