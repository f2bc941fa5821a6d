/**
 * Speculative decoding of a sequence that decodes alone: a draft, then all of its positions in one pass.
 *
 * Must not know: scheduling, plans, budgets.
 *
 * A step of one row waits for weights to arrive from memory, and a few further positions share the same weights. In a
 * batch, the rows share them already, so only a lone sequence gets a draft. The sequence's own exit samples the tokens
 * with the same random draws as plain decoding, and accepts the draft as far as it agrees. So the distribution of the
 * answer does not depend on the draft.
 */
import { dryPenalties, type SampledToken, sampledToken, wantsAllLogits } from '../sampling/sample-batch.js';
import type { Executor } from '../execution/executor.js';
import type { DraftSource, ExitIndex } from '../../protocol/index.js';
import type { Sequence } from '../../scheduler/sequence.js';
import { DraftLength } from '../../scheduler/drafts/draft-length.js';
import { draftAt, draftByGate, draftExits, type IsEnd } from './exit-draft.js';
import { lookUp, lookUpIn } from '../../scheduler/drafts/lookup.js';
import { Speedup, BaselineStep } from '../../scheduler/drafts/speedup.js';

export interface Draft {
  readonly source: DraftSource;
  readonly tokens: readonly number[];
  readonly speedup: Speedup;
  /** Whether the most likely tokens alone decide; set when the draft has run (`prepareVerification`). */
  isArgmax: boolean;
}

export class Speculation {
  readonly #speedups = new Map<string, Speedup>();
  readonly #baselines = new Map<ExitIndex, BaselineStep>();
  readonly #lengths = new WeakMap<Sequence, DraftLength>();

  constructor(private readonly executor: Executor) {}

  /**
   * Drafts the next tokens if a draft is likely to pay off.
   * @param most tokens that the sequence and its memory allow, beside the next one
   * @param isEnd whether the answer ends behind these tokens, whatever the draft says
   */
  draft(sequence: Sequence, most: number, isEnd: IsEnd = () => false): Draft | null {
    const { maxRows, maxChunk } = this.executor.model.limits;
    const length = Math.min(most, maxRows - 1, maxChunk - 1, this.#length(sequence).tokens);
    if (length < 1 || isEnd([]) || this.#baseline(sequence).isDue()) return null;
    return this.#fromText(sequence, length, isEnd) ?? this.#fromExit(sequence, length, isEnd);
  }

  /**
   * Samples tokens while they agree with the draft, and the first one that differs. Further positions are rolled back.
   * @param take appends a token to the sequence; false if the answer ends with it
   * @returns number of accepted draft tokens
   */
  verify(sequence: Sequence, draft: Draft, take: (choice: SampledToken) => boolean): number {
    const { head } = this.executor;
    const { slot, tokens } = sequence;
    const before = tokens.length;
    let accepted = 0;
    // Counted one by one: any token may end the answer, and the end event reports the counts.
    sequence.countDraft(draft.source, draft.tokens.length, 0);
    for (let goesOn = true; goesOn;) {
      const choice = sampledToken(head, accepted, sequence, draft.isArgmax, accepted);
      const isDraft = choice.token === draft.tokens[accepted];
      if (isDraft) {
        accepted++;
        sequence.countDraft(draft.source, 0, 1);
      }
      goesOn = take(choice) && isDraft;
    }
    // The slot of a finished answer stays as a prefix, so it is truncated as well. It holds no end token.
    slot?.truncate(Math.min(before + accepted, tokens.length));
    this.#length(sequence).observe(draft.tokens.length, accepted);
    return accepted;
  }

  /** Learns from a step of a lone sequence, with its verified draft or without. @param tokens tokens that it produced */
  observe(sequence: Sequence, draft: Draft | null, tokens: number, ms: number): void {
    const baseline = this.#baseline(sequence);
    if (draft === null) baseline.observe(ms);
    else draft.speedup.observe(tokens * baseline.ms, ms);
  }

  #length(sequence: Sequence): DraftLength {
    let length = this.#lengths.get(sequence);
    if (!length) this.#lengths.set(sequence, (length = new DraftLength()));
    return length;
  }

  #baseline({ exit }: Sequence): BaselineStep {
    let baseline = this.#baselines.get(exit);
    if (!baseline) this.#baselines.set(exit, (baseline = new BaselineStep()));
    return baseline;
  }

  /** Drafts from the client's prediction or the text so far, which costs no model run. */
  #fromText(sequence: Sequence, length: number, isEnd: IsEnd): Draft | null {
    const { request, tokens, promptLength } = sequence;
    const expected = request.prediction ?? null;
    const predicted = expected === null ? [] : lookUpIn(expected, tokens.slice(promptLength), length);
    const source = predicted.length > 0 ? 'prediction' : 'lookup';
    const known = predicted.length > 0 ? predicted : lookUp(tokens, length);
    const draft = untilEnd(untilPenalized(sequence, known), isEnd);
    const speedup = this.#speedup(sequence, source);
    return draft.length > 0 && speedup.tryNow() ? { source, tokens: draft, speedup, isArgmax: false } : null;
  }

  #fromExit(sequence: Sequence, length: number, isEnd: IsEnd): Draft | null {
    // Penalties and biases would need all logits of each draft token.
    if (wantsAllLogits(sequence)) return null;
    // Behind the last chunk of its prompt, which runs in the same step, no exit has the positions yet.
    if (!sequence.isDecodable(this.executor.exit(sequence.exit).needed)) return null;
    const { executor } = this;
    const { gate } = executor.model;
    const exits = draftExits(executor, sequence);
    const ways = exits.map((exit) => ({
      speedup: this.#speedup(sequence, `exit ${exit}`),
      run: () => draftAt(executor, sequence, exit, length, isEnd),
    }));
    if (gate !== null && exits.length > 0)
      ways.unshift({
        speedup: this.#speedup(sequence, 'gate'),
        run: () => draftByGate(executor, sequence, gate, length, isEnd),
      });
    const [best] = ways.filter(({ speedup }) => speedup.tryNow()).sort((a, b) => b.speedup.ratio - a.speedup.ratio);
    if (best === undefined) return null;
    return { source: 'exit', tokens: best.run(), speedup: best.speedup, isArgmax: false };
  }

  /** Speed-up by source, exit, and greedy or sampled decoding: greedy text repeats itself more often. */
  #speedup({ exit, request }: Sequence, source: string): Speedup {
    const key = `${source}, ${exit}, ${request.sampling.temperature > 0 ? 'sampled' : 'greedy'}`;
    let speedup = this.#speedups.get(key);
    if (!speedup) this.#speedups.set(key, (speedup = new Speedup()));
    return speedup;
  }
}

/** Cuts a draft at the first token that the sequence's DRY rule penalizes. */
function untilPenalized(sequence: Sequence, draft: readonly number[]): readonly number[] {
  if (sequence.dry === null) return draft;
  const end = draft.findIndex((token, i) => dryPenalties(sequence, draft.slice(0, i)).has(token));
  return end < 0 ? draft : draft.slice(0, end);
}

/** Cuts a draft behind the first token at which the answer ends. */
function untilEnd(draft: readonly number[], isEnd: IsEnd): readonly number[] {
  const last = draft.findIndex((_, i) => isEnd(draft.slice(0, i + 1)));
  return last < 0 ? draft : draft.slice(0, last + 1);
}
