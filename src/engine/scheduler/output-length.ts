/**
 * The lengths of answers, as measured and as learned.
 *
 * The output length is a distribution, by exit and kind of request: the model's prior, with its hazard of ending scaled
 * by one ratio for each kind (proportional hazards). The ratio is of the answers that ended to those that would have by
 * the prior; that of forms begins above 1. An answer that was cut or landed is censored: it passed its tokens and did
 * not end. Each tenant has its own ratio, with the bounded evidence of the others (owned.ts).
 *
 * The tokens that pass until a text may end, by tenant and kind of request, from the answers of the engine. An answer
 * counts once, however many sentences it has. Code fences and answers that may not land teach nothing.
 *
 * Lengths are counted in bins, so that the evidence of tenants adds up (owned.ts). The quantile of the bins is what
 * plans count on.
 */
import { type ExitIndex, at } from './cost/model.js';
import type { AnswerKind } from '../../protocol/index.js';
import { type Additive, Owned } from './owned.js';
import type { Policy } from './policy.js';

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

/** Between two lengths, share x (tokens / from)^slope of the answers are longer than so many tokens. */
interface Segment {
  readonly from: number;
  readonly to: number;
  readonly share: number;
  readonly slope: number;
}

/** The distribution at one exit. All lengths are whole answers, tokens that were emitted already included. */
export class LengthDistribution {
  readonly #segments: readonly Segment[];

  /**
   * @param longer [tokens, share of answers that are longer], from [below 1, 1]; behind the last, the last slope holds
   */
  constructor(private readonly longer: readonly (readonly [number, number])[]) {
    this.#segments = longer.map(([from, share], i) => {
      const [x0, y0] = at(longer, Math.min(i, longer.length - 2));
      const [x1, y1] = at(longer, Math.min(i, longer.length - 2) + 1);
      return { from, to: longer[i + 1]?.[0] ?? LONGEST, share, slope: Math.log(y1 / y0) / Math.log(x1 / x0) };
    });
  }

  /** The same with so many times the hazard of ending at each token. */
  scaled(ratio: number): LengthDistribution {
    return new LengthDistribution(this.longer.map(([tokens, share]) => [tokens, share ** ratio]));
  }

  /** Share of all answers that are longer than so many tokens. */
  longerThan(tokens: number): number {
    const { from, share, slope } = this.#last((each) => each.from <= tokens);
    return tokens <= from ? share : share * (tokens / from) ** slope;
  }

  /** Mean tokens still to come after `generated`, at least one, at most up to `most`. */
  meanLeft(generated: number, most: number): number {
    const least = Math.min(1, most - generated);
    const longer = this.longerThan(generated);
    if (longer < 1e-9) return least;
    // All answers are longer than the first point.
    let tokens = Math.max(0, Math.min(most, at(this.#segments, 0).from) - generated);
    for (const segment of this.#segments) tokens += areaOf(segment, generated, most);
    return Math.max(least, tokens / longer);
  }

  /** Length that a share of the answers that are longer than `generated` does not exceed, at most `most`. */
  quantile(share: number, generated: number, most: number): number {
    const aim = (1 - share) * this.longerThan(generated);
    const segment = this.#last((each) => each.share >= aim);
    const tokens = segment.from * (aim / segment.share) ** (1 / segment.slope);
    return Math.max(Math.min(most, generated + 1), Math.min(most, Math.ceil(tokens - 1e-9)));
  }

  /** The last segment of which something holds, else the first. */
  #last(holds: (each: Segment) => boolean): Segment {
    return this.#segments.findLast(holds) ?? at(this.#segments, 0);
  }
}

/** Tokens between two lengths inside of a segment, times the share of answers that have them. */
function areaOf({ from, to, share, slope }: Segment, start: number, end: number): number {
  const low = Math.max(from, start) / from;
  const high = Math.min(to, end) / from;
  if (high <= low) return 0;
  const power = slope + 1;
  if (Math.abs(power) < 1e-9) return share * from * Math.log(high / low);
  return ((share * from) / power) * (high ** power - low ** power);
}

/** Answers: how many ended, and how many would have by the prior. */
interface Evidence {
  readonly answers: number;
  readonly ended: number;
  readonly expected: number;
}

const ANSWERS: Additive<Evidence> = {
  none: { answers: 0, ended: 0, expected: 0 },
  add: (a, b) => ({ answers: a.answers + b.answers, ended: a.ended + b.ended, expected: a.expected + b.expected }),
  scale: ({ answers, ended, expected }, factor) => {
    return { answers: answers * factor, ended: ended * factor, expected: expected * factor };
  },
  // A long answer is evidence of many tokens without an end.
  answers: ({ answers, expected }) => Math.max(answers, expected),
};

type Tunables = Pick<Policy, 'priorAnswers' | 'formEnds' | 'answerHalfLife' | 'mostForeignAnswers'>;

export class OutputLengths {
  readonly #prior: readonly LengthDistribution[];
  readonly #kinds = new Map<AnswerKind, Owned<Evidence>>();
  /** By kind and owner: the prior, scaled. Emptied by new evidence. */
  readonly #scaled = new Map<AnswerKind, Map<string, readonly LengthDistribution[]>>();

  /** @param prior of chat answers, by exit */
  constructor(
    exits: number,
    prior: LengthPrior | null,
    private readonly policy: Tunables,
  ) {
    this.#prior = Array.from({ length: exits }, (_, i) => {
      const quantiles = prior?.[i] ?? DEFAULT_QUANTILES;
      return new LengthDistribution([[0.5, 1], ...quantiles.map(([share, tokens]) => [tokens, 1 - share] as const)]);
    });
  }

  /** By exit, shallowest first. @param owner the tenant; absent: a tenant without answers */
  of(kind: AnswerKind, owner = ''): readonly LengthDistribution[] {
    const known = this.#scaled.get(kind)?.get(owner);
    if (known !== undefined) return known;
    const { ended, expected } = this.#kinds.get(kind)?.of(owner) ?? ANSWERS.none;
    const { priorAnswers, formEnds } = this.policy;
    const ends = kind === 'schema' || kind === 'tools' ? formEnds : 1;
    const ratio = (priorAnswers * ends + ended) / (priorAnswers + expected);
    const scaled = this.#prior.map((each) => each.scaled(ratio));
    const ofKind = this.#scaled.get(kind) ?? new Map<string, readonly LengthDistribution[]>();
    this.#scaled.set(kind, ofKind.set(owner, scaled));
    return scaled;
  }

  /** Learns of an answer. @param exit of its last token @param hasEnded false for one that was cut or landed */
  observe(kind: AnswerKind, owner: string, exit: ExitIndex, tokens: number, hasEnded: boolean): void {
    const prior = this.#prior[exit];
    if (prior === undefined) throw new RangeError(`no exit ${exit}`);
    if (tokens === 0) return;
    const expected = -Math.log(Math.max(1e-9, prior.longerThan(tokens)));
    let owned = this.#kinds.get(kind);
    if (owned === undefined) this.#kinds.set(kind, (owned = new Owned(ANSWERS, this.policy.mostForeignAnswers)));
    const fade = 0.5 ** (1 / this.policy.answerHalfLife);
    owned.observe(owner, { answers: 1, ended: hasEnded ? 1 : 0, expected }, fade);
    this.#scaled.delete(kind);
  }
}

type SentenceTunables = Pick<
  Policy,
  'sentenceQuantile' | 'sentenceTokens' | 'sentenceFade' | 'priorSentenceAnswers' | 'mostForeignAnswers'
>;

/** Each bin is longer than the one before by this factor. */
const BIN_FACTOR = 1.12;
/** The last bin holds 500 tokens and more. */
const BINS = 56;

const binOf = (tokens: number): number =>
  Math.min(BINS - 1, Math.max(0, Math.round(Math.log(Math.max(1, tokens)) / Math.log(BIN_FACTOR))));

/** Sentences of one answer, or of many: their weights by bin, and the answers that they are of. */
interface Lengths {
  readonly answers: number;
  readonly bins: Float64Array;
}

const LENGTHS: Additive<Lengths> = {
  none: { answers: 0, bins: new Float64Array(BINS) },
  add: (a, b) => ({ answers: a.answers + b.answers, bins: a.bins.map((weight, bin) => weight + (b.bins[bin] ?? 0)) }),
  scale: ({ answers, bins }, factor) => {
    return { answers: answers * factor, bins: bins.map((weight) => weight * factor) };
  },
  answers: ({ answers }) => answers,
};

/** The sentences of an answer. */
export class SentenceState {
  /** Tokens since the text could end. */
  tokens = 0;
  /** Tokens until the text could end for the first time; null before. */
  first: number | null = null;
  /** The text could end behind the last token. */
  couldEnd = false;
  /** Lengths of the further sentences. */
  readonly next: number[] = [];

  /** Reads the next token of the text. */
  read(couldEnd: boolean): void {
    this.tokens++;
    if (couldEnd) {
      // A quotation mark behind an end is the same end.
      if (this.first === null) this.first = this.tokens;
      else if (!this.couldEnd) this.next.push(this.tokens);
      this.tokens = 0;
    }
    this.couldEnd = couldEnd;
  }
}

/** Learnt lengths of one place in answers: of the first sentence, or of those behind it. */
class Quantile {
  readonly #owned: Owned<Lengths>;
  /** By owner. Emptied by new evidence. */
  readonly #known = new Map<string, number>();
  readonly #prior: Float64Array;

  constructor(private readonly policy: SentenceTunables) {
    this.#owned = new Owned(LENGTHS, policy.mostForeignAnswers);
    // An exponential distribution with that quantile.
    const share = (tokens: number): number => 1 - (1 - policy.sentenceQuantile) ** (tokens / policy.sentenceTokens);
    this.#prior = Float64Array.from({ length: BINS }, (_, bin) => {
      const below = bin === 0 ? 0 : share(BIN_FACTOR ** (bin - 0.5));
      return (bin === BINS - 1 ? 1 : share(BIN_FACTOR ** (bin + 0.5))) - below;
    });
  }

  of(owner: string): number {
    let tokens = this.#known.get(owner);
    if (tokens === undefined) this.#known.set(owner, (tokens = this.#quantile(owner)));
    return tokens;
  }

  /** @param lengths of one answer */
  observe(owner: string, lengths: readonly number[]): void {
    if (lengths.length === 0) return;
    const bins = new Float64Array(BINS);
    for (const tokens of lengths) bins[binOf(tokens)] = (bins[binOf(tokens)] ?? 0) + 1 / lengths.length;
    this.#owned.observe(owner, { answers: 1, bins }, this.policy.sentenceFade);
    this.#known.clear();
  }

  #quantile(owner: string): number {
    const { priorSentenceAnswers, sentenceQuantile } = this.policy;
    const { answers, bins } = this.#owned.of(owner);
    if (answers === 0) return this.policy.sentenceTokens;
    let left = sentenceQuantile * (priorSentenceAnswers + answers);
    for (let bin = 0; bin < BINS; bin++) {
      const weight = priorSentenceAnswers * (this.#prior[bin] ?? 0) + (bins[bin] ?? 0);
      if (left <= weight) return BIN_FACTOR ** (bin - 0.5 + left / weight);
      left -= weight;
    }
    return BIN_FACTOR ** BINS;
  }
}

/** Probability that a sentence ends within so many tokens. @param sentenceTokens that nine of ten do not exceed */
export function sentenceWithin(
  tokens: number,
  sentenceTokens: number,
  { sentenceShape, sentenceQuantile }: Pick<Policy, 'sentenceShape' | 'sentenceQuantile'>,
): number {
  return 1 - (1 - sentenceQuantile) ** ((Math.max(0, tokens) / sentenceTokens) ** sentenceShape);
}

export class SentenceLength {
  readonly #first: Quantile;
  readonly #next: Quantile;

  constructor(policy: SentenceTunables) {
    this.#first = new Quantile(policy);
    this.#next = new Quantile(policy);
  }

  /** Tokens of an answer until it may end for the first time, at the quantile. */
  first(kind: AnswerKind, owner: string): number {
    return this.#first.of(`${kind} ${owner}`);
  }

  /** The same from one sentence boundary to the next. */
  next(kind: AnswerKind, owner: string): number {
    return this.#next.of(`${kind} ${owner}`);
  }

  /** Learns from an answer that ended. Its last sentence counts if it is longer than expected: nothing ended it. */
  observe({ first, next, tokens }: SentenceState, kind: AnswerKind, owner: string): void {
    const name = `${kind} ${owner}`;
    if (first !== null) this.#first.observe(name, [first]);
    else if (tokens > this.#first.of(name)) this.#first.observe(name, [tokens]);
    const unended = first !== null && tokens > this.#next.of(name) ? [tokens] : [];
    this.#next.observe(name, [...next, ...unended]);
  }
}
