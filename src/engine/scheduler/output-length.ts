/**
 * The lengths of answers, as measured and as learned.
 *
 * The output length is a distribution, by exit and kind of request. It is the model's prior, with its hazard of ending
 * scaled by one ratio for each kind and tenant (proportional hazards). The ratio is of the answers that ended to those
 * that would have by the prior; that of forms begins above 1. An answer that was cut or landed is censored: it passed
 * its tokens and did not end.
 *
 * The tokens that pass until a text may end, by kind and tenant, at a quantile that follows the answers of the engine.
 * An answer counts once, however many sentences it has. Code teaches by its first statement alone, and answers that
 * may not land teach nothing.
 *
 * A tenant learns from its own answers alone, so no tenant moves what the scheduler expects of another one.
 */
import type { ExitIndex } from './cost/model.js';
import { at } from '../../util/at.js';
import type { AnswerKind } from '../../protocol/index.js';
import { Latest } from '../../util/latest.js';
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

/** Kinds of tenants whose lengths are known, at most. */
const MOST_NAMES = 4096;

/** Answers of a kind and tenant: how many ended, and how many would have by the prior. */
interface Evidence {
  readonly ended: number;
  readonly expected: number;
  /** By exit: the prior, scaled. */
  readonly lengths: readonly LengthDistribution[];
}

export class OutputLengths {
  readonly #prior: readonly LengthDistribution[];
  readonly #forms: readonly LengthDistribution[];
  readonly #known = new Latest<Evidence>(MOST_NAMES);

  /** @param prior of chat answers, by exit */
  constructor(
    exits: number,
    prior: LengthPrior | null,
    private readonly policy: Pick<Policy, 'priorAnswers' | 'formEnds' | 'answerFade'>,
  ) {
    this.#prior = Array.from({ length: exits }, (_, i) => {
      const quantiles = prior?.[i] ?? DEFAULT_QUANTILES;
      return new LengthDistribution([[0.5, 1], ...quantiles.map(([share, tokens]) => [tokens, 1 - share] as const)]);
    });
    this.#forms = this.#prior.map((each) => each.scaled(policy.formEnds));
  }

  /** By exit, shallowest first. @param owner the tenant; absent: a tenant without answers */
  of(kind: AnswerKind, owner = ''): readonly LengthDistribution[] {
    return this.#known.get(`${kind} ${owner}`)?.lengths ?? (isForm(kind) ? this.#forms : this.#prior);
  }

  /** Learns of an answer. @param exit of its last token @param hasEnded false for one that was cut or landed */
  observe(kind: AnswerKind, owner: string, exit: ExitIndex, tokens: number, hasEnded: boolean): void {
    const prior = this.#prior[exit];
    if (prior === undefined) throw new RangeError(`no exit ${exit}`);
    if (tokens === 0) return;
    const { answerFade, formEnds, priorAnswers } = this.policy;
    const name = `${kind} ${owner}`;
    const before = this.#known.get(name) ?? { ended: 0, expected: 0 };
    const ended = before.ended * answerFade + (hasEnded ? 1 : 0);
    const expected = before.expected * answerFade - Math.log(Math.max(1e-9, prior.longerThan(tokens)));
    const ratio = (priorAnswers * (isForm(kind) ? formEnds : 1) + ended) / (priorAnswers + expected);
    this.#known.set(name, { ended, expected, lengths: this.#prior.map((each) => each.scaled(ratio)) });
  }
}

const isForm = (kind: AnswerKind): boolean => kind === 'schema' || kind === 'tools';

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

/** Probability that a sentence ends within so many tokens. @param sentenceTokens that nine of ten do not exceed */
export function sentenceWithin(
  tokens: number,
  sentenceTokens: number,
  { sentenceQuantile }: Pick<Policy, 'sentenceQuantile'>,
): number {
  // Of a tenth of the sentences, .44 are within half of that length; an exponential distribution would have .68.
  return 1 - (1 - sentenceQuantile) ** ((Math.max(0, tokens) / sentenceTokens) ** 2);
}

/** Sentences of a kind and tenant, in tokens at the quantile. */
interface Sentences {
  /** Of an answer until it may end for the first time. */
  readonly first: number;
  /** From one sentence boundary to the next. */
  readonly next: number;
  /** First sentences that were seen. */
  readonly seen: number;
}

/**
 * Lengths of sentences at the quantile. A net and code count on a longer first one, which comes down with each that was
 * seen.
 */
export class SentenceLength {
  readonly #known = new Latest<Sentences>(MOST_NAMES);

  constructor(
    private readonly policy: Pick<
      Policy,
      'sentenceQuantile' | 'sentenceTokens' | 'carefulSentenceTokens' | 'sentenceGain'
    >,
  ) {}

  /** Tokens of an answer until it may end for the first time, at the quantile. @param isCareful for a net or code */
  first(kind: AnswerKind, owner: string, isCareful = false): number {
    const { carefulSentenceTokens } = this.policy;
    const { first, seen } = this.#of(`${kind} ${owner}`);
    return isCareful ? Math.max(first, carefulSentenceTokens * this.#factor(0) ** seen) : first;
  }

  /** The same from one sentence boundary to the next. */
  next(kind: AnswerKind, owner: string): number {
    return this.#of(`${kind} ${owner}`).next;
  }

  /** Learns from an answer that ended. Its last sentence counts if it is longer than expected: nothing ended it. */
  observe({ first, next, tokens }: SentenceState, kind: AnswerKind, owner: string): void {
    const name = `${kind} ${owner}`;
    const known = this.#of(name);
    const firsts = first !== null || tokens > known.first ? [first ?? tokens] : [];
    const unended = first !== null && tokens > known.next ? [tokens] : [];
    this.#known.set(name, {
      first: this.#moved(known.first, firsts),
      next: this.#moved(known.next, [...next, ...unended]),
      seen: known.seen + firsts.length,
    });
  }

  #of(name: string): Sentences {
    const { sentenceTokens } = this.policy;
    return this.#known.get(name) ?? { first: sentenceTokens, next: sentenceTokens, seen: 0 };
  }

  /** Follows the quantile: as many steps up for longer sentences as down for others keep it in place. */
  #moved(quantile: number, lengths: readonly number[]): number {
    if (lengths.length === 0) return quantile;
    return quantile * this.#factor(lengths.filter((tokens) => tokens > quantile).length / lengths.length);
  }

  /** @param longer share of sentences beyond the quantile */
  #factor(longer: number): number {
    const { sentenceGain, sentenceQuantile } = this.policy;
    return Math.exp(sentenceGain * (longer - (1 - sentenceQuantile)));
  }
}
