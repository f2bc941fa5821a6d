/**
 * The tokens that pass until a text may end, by tenant and kind of request, from the answers of the engine. An answer
 * counts once, however many sentences it has. Code fences and answers that may not land teach nothing.
 *
 * Lengths are counted in bins, so that the evidence of tenants adds up (owned.ts). The quantile of the bins is what
 * plans count on.
 *
 * Must not know: texts, time.
 */
import type { AnswerKind } from '../../protocol/index.js';
import { type Additive, Owned } from './owned.js';
import type { Policy } from './policy.js';

type Tunables = Pick<
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

  constructor(private readonly policy: Tunables) {
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

  constructor(policy: Tunables) {
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
