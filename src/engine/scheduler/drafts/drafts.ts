/**
 * Speculative decoding of a sequence that decodes alone: which draft a step verifies, by what drafts have gained.
 *
 * A step of one row waits for weights to arrive from memory, and a few further positions share the same weights. In a
 * batch, the rows share them already, so only a lone sequence gets a draft. The sequence's own exit samples the tokens
 * with the same random draws as plain decoding, and accepts the draft as far as it agrees. So the distribution of the
 * answer does not depend on the draft.
 *
 * Drafts continue an earlier occurrence of the last tokens (prompt lookup decoding), or a text that the client expects.
 * A looped model also drafts by fewer loops, as its gate chooses. A source is used while the tokens of its drafts take
 * less time than one by one.
 *
 * Must not know: models, logits, budgets.
 */
import type { DraftCount, DraftSource, SequenceRequest } from '../../../protocol/index.js';
import type { Speculate } from '../../../protocol/engine-options.js';
import { changesLogits } from '../../../protocol/request.js';
import type { Sequence } from '../sequence.js';
import type { DraftPlan } from '../step-plan.js';

export interface DraftLimits {
  readonly speculate: Speculate;
  /** Most tokens of a draft: rows of the head, or positions of a chunk, beside the next token. */
  readonly most: number;
  /** Whether a gate may choose the exits of a draft. */
  readonly hasGate: boolean;
}

export class Drafts {
  readonly #speedups = new Map<string, Speedup>();

  constructor(readonly limits: DraftLimits) {}

  /**
   * A draft of the next tokens, if one is likely to pay off. One from the client's prediction or the text so far costs
   * no model run, so it comes before the gate's.
   * @param most tokens that the sequence and its memory allow, beside the next one
   */
  plan(sequence: Sequence, most: number): DraftPlan | null {
    const length = Math.min(most, this.limits.most, sequence.draftTokens ?? FIRST_TOKENS);
    if (length < 1) return null;
    const text = fromText(sequence, length);
    if (text !== null && this.#speedup(sequence, text.source).tryNow()) return text;
    // Penalties and biases would need all logits of each draft token. Behind the last chunk of its prompt, which runs
    // in the same step, no exit has the positions yet.
    const mayLoop = this.limits.hasGate && sequence.exit > 0 && sequence.isDecodable;
    if (!mayLoop || changesLogits(sequence.request.sampling)) return null;
    return this.#speedup(sequence, 'exit').tryNow() ? { source: 'exit', most: length } : null;
  }

  /**
   * Learns from a draft that was verified.
   * @param plainMs of its tokens one by one, as the costs predict them
   * @param ms time of the step; null where other work shared it
   */
  observe(sequence: Sequence, { source, drafted, accepted }: DraftCount, plainMs: number, ms: number | null): void {
    sequence.draftTokens = nextLength(sequence.draftTokens ?? FIRST_TOKENS, drafted, accepted);
    sequence.countDraft(source, drafted, accepted);
    if (ms !== null) this.#speedup(sequence, source).observe(plainMs, ms);
  }

  /** Speed-up by source, exit, and greedy or sampled decoding: greedy text repeats itself more often. */
  #speedup({ exit, request }: Sequence, source: DraftSource): Speedup {
    const kind = request.sampling.temperature > 0 ? 'sampled' : 'greedy';
    const key = `${source}, ${exit}, ${kind}`;
    const known = this.#speedups.get(key) ?? new Speedup();
    this.#speedups.set(key, known);
    return known;
  }
}

/** The operator's `off` overrides the request; otherwise the request decides. */
export function maySpeculate(request: SequenceRequest, mode: Speculate): boolean {
  const { speculate, prediction, sampling, grammar } = request;
  // Grammar masks are computed for one token after another.
  if (mode === 'off' || speculate === false || (grammar ?? null) !== null) return false;
  if (mode === 'all' || speculate === true || (prediction ?? null) !== null) return true;
  return sampling.temperature > 0 && sampling.seed === null;
}

function fromText({ request, tokens, promptLength }: Sequence, most: number): DraftPlan | null {
  const predicted = lookUpIn(request.prediction ?? [], tokens.slice(promptLength), most);
  if (predicted.length > 0) return { source: 'prediction', tokens: predicted };
  const repeated = lookUp(tokens, most);
  return repeated.length > 0 ? { source: 'lookup', tokens: repeated } : null;
}

/** Tokens that must agree at the end of the text and at the earlier occurrence. */
const KEY_TOKENS = 3;

/**
 * Continues the text like the latest earlier occurrence of its last three tokens. If the continuation reaches the end
 * of the text, it goes on with its own tokens: a text that repeats itself keeps repeating.
 * @returns at most `most` tokens; none without an earlier occurrence
 */
export function lookUp(text: readonly number[], most: number): number[] {
  const end = text.length;
  for (let at = end - 1; at >= KEY_TOKENS; at--)
    if (isSameEnd(text, at, text, end, KEY_TOKENS))
      return Array.from({ length: most }, (_, i) => text[at + (i % (end - at))] ?? NaN);
  return [];
}

/**
 * Continues an answer from an expected text. An answer that is the beginning of that text continues there; any other
 * answer continues after its last three tokens.
 * @returns at most `most` tokens
 */
export function lookUpIn(expected: readonly number[], answer: readonly number[], most: number): number[] {
  const end = answer.length;
  if (end <= expected.length && isSameEnd(expected, end, answer, end, end)) return expected.slice(end, end + most);
  for (let at = KEY_TOKENS; at < expected.length; at++)
    if (end >= KEY_TOKENS && isSameEnd(expected, at, answer, end, KEY_TOKENS)) return expected.slice(at, at + most);
  return [];
}

/** Whether the `count` tokens before `a[aEnd]` and before `b[bEnd]` are the same. */
function isSameEnd(a: readonly number[], aEnd: number, b: readonly number[], bEnd: number, count: number): boolean {
  for (let back = 1; back <= count; back++) if (a[aEnd - back] !== b[bEnd - back]) return false;
  return true;
}

/** Prior without measurements: worth trying. */
const INITIAL_SPEEDUP = 1.2;
/** A source below this speed-up is skipped: measurements are rough, and drafts make step times uneven. */
const MIN_SPEEDUP = 1.05;
/** Weight of the latest round or step. */
const GAIN = 0.04;
/** Upper limit of one round's speed-up: a lucky round says little about the next. */
const MAX_SPEEDUP = 4;
/** A skipped source is tried once in this many rounds: texts and machines change. */
const RETRY_ROUNDS = 200;

export class Speedup {
  #ratio = INITIAL_SPEEDUP;
  #skipped = 0;

  /** Mean speed-up as far as measured. */
  get ratio(): number {
    return this.#ratio;
  }

  /** Whether the next round should use this source. Called once per round, because a skipped source is retried. */
  tryNow(): boolean {
    if (this.#ratio >= MIN_SPEEDUP) return true;
    this.#skipped = (this.#skipped + 1) % RETRY_ROUNDS;
    return this.#skipped === 0;
  }

  /** Learns from a round. @param plainMs estimated time of its tokens without drafts */
  observe(plainMs: number, tookMs: number): void {
    if (!(plainMs > 0) || !(tookMs > 0)) return;
    this.#ratio += (Math.min(MAX_SPEEDUP, plainMs / tookMs) - this.#ratio) * GAIN;
  }
}

/** Tokens of a sequence's first draft. */
export const FIRST_TOKENS = 4;
const MIN_TOKENS = 2;
/** Each further position costs about a tenth of a step, accepted or not. */
const MAX_TOKENS = 8;

/** Tokens of the next draft. @param tokens of the last one, as it was asked for */
export function nextLength(tokens: number, drafted: number, accepted: number): number {
  if (drafted === 0) return tokens;
  if (accepted === drafted) return Math.min(MAX_TOKENS, 2 * tokens);
  return accepted === 0 ? Math.max(MIN_TOKENS, tokens >> 1) : tokens;
}
