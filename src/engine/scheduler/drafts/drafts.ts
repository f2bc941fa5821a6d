/**
 * Speculative decoding of a sequence that decodes alone: which draft a step verifies, by what drafts have gained.
 *
 * A step of one row waits for weights to arrive from memory, and a few further positions share the same weights. In a
 * batch, the rows share them already, so only a lone sequence gets a draft. The sequence's own exit samples the tokens
 * with the same random draws as plain decoding, and accepts the draft as far as it agrees. So the distribution of the
 * answer does not depend on the draft.
 *
 * Must not know: models, logits, budgets.
 */
import type { ExitIndex, SequenceRequest } from '../../../protocol/index.js';
import type { Speculate } from '../../../protocol/engine-options.js';
import { changesLogits } from '../../../protocol/sampling-rules.js';
import type { ExitUnits } from '../kv/units.js';
import type { Sequence } from '../sequence.js';
import type { DraftPlan } from '../step-plan.js';
import { DraftLength, BaselineStep, Speedup } from './speedup.js';
import { lookUp, lookUpIn } from './lookup.js';

export interface DraftLimits {
  readonly speculate: Speculate;
  /** Most rows of the head, and most positions of a chunk. */
  readonly maxRows: number;
  readonly maxChunk: number;
  /** Whether a gate may choose the exits of a draft. */
  readonly hasGate: boolean;
}

export class Drafts {
  readonly #speedups = new Map<string, Speedup>();
  readonly #baselines = new Map<ExitIndex, BaselineStep>();
  readonly #lengths = new WeakMap<Sequence, DraftLength>();

  constructor(
    private readonly exits: readonly ExitUnits[],
    private readonly limits: DraftLimits,
  ) {}

  /** Whether the operator and the request allow drafts. */
  mayDraft({ request }: Sequence): boolean {
    return maySpeculate(request, this.limits.speculate);
  }

  /**
   * A draft of the next tokens, if one is likely to pay off.
   * @param most tokens that the sequence and its memory allow, beside the next one
   */
  plan(sequence: Sequence, most: number): DraftPlan | null {
    const { maxRows, maxChunk } = this.limits;
    const length = Math.min(most, maxRows - 1, maxChunk - 1, this.#length(sequence).tokens);
    if (length < 1 || this.#baseline(sequence).isDue()) return null;
    return this.#fromText(sequence, length) ?? this.#fromExit(sequence, length);
  }

  /**
   * Learns from a step of a lone sequence.
   * @param draft the draft that was verified; null for a plain step
   * @param tokens tokens that the step gave
   * @param ms time of the step; null where other work shared it
   */
  observe(sequence: Sequence, draft: ObservedDraft | null, tokens: number, ms: number | null): void {
    const baseline = this.#baseline(sequence);
    if (draft === null) {
      if (ms !== null) baseline.observe(ms);
      return;
    }
    const { plan, drafted, accepted } = draft;
    this.#length(sequence).observe(drafted, accepted);
    sequence.countDraft(plan.source, drafted, accepted);
    if (ms !== null) this.#speedup(sequence, wayOf(plan)).observe(tokens * baseline.ms, ms);
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
  #fromText(sequence: Sequence, length: number): DraftPlan | null {
    const { request, tokens, promptLength } = sequence;
    const expected = request.prediction ?? null;
    const predicted = expected === null ? [] : lookUpIn(expected, tokens.slice(promptLength), length);
    const source = predicted.length > 0 ? 'prediction' : 'lookup';
    const known = predicted.length > 0 ? predicted : lookUp(tokens, length);
    return known.length > 0 && this.#speedup(sequence, source).tryNow() ? { source, tokens: known } : null;
  }

  #fromExit(sequence: Sequence, most: number): DraftPlan | null {
    // Penalties and biases would need all logits of each draft token. Behind the last chunk of its prompt, which runs
    // in the same step, no exit has the positions yet.
    if (changesLogits(sequence.request.sampling) || !sequence.isDecodable) return null;
    const exits = draftExits(sequence, this.exits, this.limits.maxChunk);
    const plans: DraftPlan[] = exits.map((exit) => ({ source: 'exit', exit, most }));
    if (this.limits.hasGate && exits.length > 0) plans.unshift({ source: 'exit', exit: null, most });
    const [best] = plans
      .map((plan) => ({ plan, speedup: this.#speedup(sequence, wayOf(plan)) }))
      .filter(({ speedup }) => speedup.tryNow())
      .sort((a, b) => b.speedup.ratio - a.speedup.ratio);
    return best?.plan ?? null;
  }

  /** Speed-up by source, exit, and greedy or sampled decoding: greedy text repeats itself more often. */
  #speedup({ exit, request }: Sequence, way: string): Speedup {
    const key = `${way}, ${exit}, ${request.sampling.temperature > 0 ? 'sampled' : 'greedy'}`;
    let speedup = this.#speedups.get(key);
    if (!speedup) this.#speedups.set(key, (speedup = new Speedup()));
    return speedup;
  }
}

export interface ObservedDraft {
  readonly plan: DraftPlan;
  readonly drafted: number;
  readonly accepted: number;
}

function wayOf(plan: DraftPlan): string {
  if (plan.source !== 'exit') return plan.source;
  return plan.exit === null ? 'gate' : `exit ${plan.exit}`;
}

/**
 * Exits that can draft for a sequence. Such an exit leaves the trunk earlier than the sequence's own exit, and
 * its units lack at most one chunk of positions.
 */
export function draftExits(
  { slot, exit, tokens }: Pick<Sequence, 'slot' | 'exit' | 'tokens'>,
  exits: readonly ExitUnits[],
  maxChunk: number,
): ExitIndex[] {
  const stage = exits[exit]?.stage ?? 0;
  const least = tokens.length - 1 - maxChunk;
  return exits.flatMap((each, index) =>
    slot !== null && each.stage < stage && slot.least(each.needed) >= least ? [index] : [],
  );
}

/** The operator's `off` overrides the request; otherwise the request decides. */
export function maySpeculate(request: SequenceRequest, mode: Speculate): boolean {
  const { speculate, prediction, sampling, grammar } = request;
  // Grammar masks are computed for one token after another.
  if (mode === 'off' || speculate === false || (grammar ?? null) !== null) return false;
  if (mode === 'all' || speculate === true || (prediction ?? null) !== null) return true;
  return sampling.temperature > 0 && sampling.seed === null;
}
