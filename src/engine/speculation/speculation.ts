/**
 * Speculative decoding of a sequence that decodes alone: a draft, then all of its positions in one pass.
 *
 * Knows: sources of drafts, what they brought so far, the executor. Must not know: scheduling, plans, budgets.
 *
 * A step of one row waits for weights to come from memory; a few positions more read the same weights. In a batch the
 * rows share them already, so only a lone sequence is drafted for. Tokens are drawn from the sequence's own exit, with
 * the draws that plain decoding would make, and kept as far as they are the draft's: the answer is distributed as if
 * nothing had been drafted, whatever the draft.
 */
import { type SampledToken, sampledToken, prepareVerification } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import type { DraftSource } from '../protocol.js';
import type { Sequence } from '../sequence.js';
import { draftAt, draftExits } from './exit-draft.js';
import { lookUp, lookUpIn } from './lookup.js';
import { Speedup, BaselineStep } from './speedup.js';

export interface Draft {
  readonly source: DraftSource;
  readonly tokens: readonly number[];
  readonly payoff: Speedup;
}

export class Speculation {
  readonly #payoffs = new Map<string, Speedup>();
  readonly #paces = new Map<number, BaselineStep>();

  constructor(private readonly executor: Executor) {}

  /**
   * A draft of what comes next, where one is worth trying.
   * @param most tokens that the sequence and its memory have room for, beside the next one
   */
  draft(sequence: Sequence, most: number): Draft | null {
    const { maxRows, maxChunk } = this.executor.model.limits;
    const length = Math.min(most, maxRows - 1, maxChunk - 1, sequence.draftLength.tokens);
    if (length < 1 || this.#pace(sequence).isDue()) return null;
    return this.#fromText(sequence, length) ?? this.#fromExit(sequence, length);
  }

  /** Runs the last token and the draft through the sequence's exit: row i of the head has what follows i draft tokens. */
  run({ slot, exit, tokens }: Sequence, draft: Draft): void {
    const { head, model } = this.executor;
    if (slot === null) return;
    const before = tokens.length;
    tokens.push(...draft.tokens);
    const { output } = this.executor.advance(slot, exit, tokens.length);
    tokens.length = before;
    if (output === null) throw new Error('verification ran no stage');
    const rows = draft.tokens.length + 1;
    const first = output.address + BigInt((before - 1 - output.start) * model.hiddenBytes);
    head.logitsOf(first, rows, this.executor.exit(exit).norm);
  }

  /**
   * Draws tokens as long as they are the draft's, and the one that is not. Positions beyond are rolled back.
   * @param take appends a token to the sequence; false where the answer ends with it
   * @returns how many of the draft were drawn
   */
  verify(sequence: Sequence, draft: Draft, take: (choice: SampledToken) => boolean): number {
    const { head } = this.executor;
    const { slot, tokens } = sequence;
    const before = tokens.length;
    const isArgmax = prepareVerification(head, sequence, draft.tokens);
    let accepted = 0;
    // Counted as they come: the answer's end, which tells them, may come with any of them.
    sequence.countDraft(draft.source, draft.tokens.length, 0);
    for (let goesOn = true; goesOn;) {
      const choice = sampledToken(head, accepted, sequence, isArgmax);
      const isDraft = choice.token === draft.tokens[accepted];
      if (isDraft) {
        accepted++;
        sequence.countDraft(draft.source, 0, 1);
      }
      goesOn = take(choice) && isDraft;
    }
    // Also where the answer is over: its slot stays as a prefix. An end token is none of its tokens.
    slot?.truncate(Math.min(before + accepted, tokens.length));
    sequence.draftLength.observe(draft.tokens.length, accepted);
    return accepted;
  }

  /** Learns from a step of a lone sequence, with the draft that it verified or with none. @param tokens that it brought */
  observe(sequence: Sequence, draft: Draft | null, tokens: number, ms: number): void {
    const pace = this.#pace(sequence);
    if (draft === null) pace.observe(ms);
    else draft.payoff.observe(tokens * pace.ms, ms);
  }

  #pace({ exit }: Sequence): BaselineStep {
    let pace = this.#paces.get(exit);
    if (!pace) this.#paces.set(exit, (pace = new BaselineStep()));
    return pace;
  }

  /** Text that is there costs nothing to look at. */
  #fromText(sequence: Sequence, length: number): Draft | null {
    const { request, tokens, promptLength } = sequence;
    const expected = request.prediction ?? null;
    const predicted = expected === null ? [] : lookUpIn(expected, tokens.slice(promptLength), length);
    const source = predicted.length > 0 ? 'prediction' : 'lookup';
    const draft = untilPenalized(sequence, predicted.length > 0 ? predicted : lookUp(tokens, length));
    const payoff = this.#payoff(sequence, source);
    return draft.length > 0 && payoff.tryNow() ? { source, tokens: draft, payoff } : null;
  }

  #fromExit(sequence: Sequence, length: number): Draft | null {
    // Penalties and biases need all logits of each draft.
    if (sequence.wantsAllLogits) return null;
    const exits = draftExits(this.executor, sequence).map((exit) => ({
      exit,
      payoff: this.#payoff(sequence, `exit ${exit}`),
    }));
    const [best] = exits.filter(({ payoff }) => payoff.tryNow()).sort((a, b) => b.payoff.ratio - a.payoff.ratio);
    if (best === undefined) return null;
    return { source: 'exit', tokens: draftAt(this.executor, sequence, best.exit, length), payoff: best.payoff };
  }

  /** Each exit and each manner of sampling has its own: what is likely is repeated, and what repeats itself is likely. */
  #payoff({ exit, request }: Sequence, source: string): Speedup {
    const key = `${source}, ${exit}, ${request.sampling.temperature > 0 ? 'sampled' : 'greedy'}`;
    let payoff = this.#payoffs.get(key);
    if (!payoff) this.#payoffs.set(key, (payoff = new Speedup()));
    return payoff;
  }
}

/** A draft up to the first token that the sequence's rule against loops makes unlikely: what repeats itself is one. */
function untilPenalized(sequence: Sequence, draft: readonly number[]): readonly number[] {
  if (sequence.dry === null) return draft;
  const end = draft.findIndex((token, i) => sequence.dryPenalties(draft.slice(0, i)).has(token));
  return end < 0 ? draft : draft.slice(0, end);
}
