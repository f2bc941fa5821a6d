/**
 * Samples one token per row from a batch's logits.
 *
 * Must not know: slots, scheduling.
 */
import type { Head, SelectedRow } from '../../model/head.js';
import { applyMask } from './constraint.js';
import type { TokenLogprobs } from '../protocol.js';
import { rulesWith, sampleFull, sampleTop } from './sampler.js';
import type { Sequence } from '../sequence.js';

/** No amounts off logits. */
const NONE: ReadonlyMap<number, number> = new Map();

export interface SampledToken {
  readonly token: number;
  readonly logprobs: TokenLogprobs | null;
}

/** Greedy without any other setting: the argmax graph alone decides. These rows must come first in the batch. */
export function isPlainGreedy(sequence: Sequence): boolean {
  return (
    sequence.request.sampling.temperature === 0 &&
    sequence.request.logprobs === null &&
    !sequence.wantsAllLogits &&
    !mustGoOn(sequence)
  );
}

/**
 * Brings what sampling needs of a batch's logits to the host: the step's only transfer from the device.
 * @param sequences sequences by row, plain greedy ones first
 */
export function prepareBatch(head: Head, sequences: readonly Sequence[]): void {
  sequences.forEach((sequence, row) => {
    if (penalizesInPlace(sequence)) head.applyPenalties(row, sequence.dryPenalties());
  });
  const plain = plainRows(sequences);
  choose(head, plain, sequences.slice(plain));
}

/** Samples the tokens of a prepared batch. */
export function sampleBatch(head: Head, sequences: readonly Sequence[]): SampledToken[] {
  const plain = plainRows(sequences);
  return sequences.map((sequence, row) => sampledToken(head, row, sequence, row < plain));
}

function plainRows(sequences: readonly Sequence[]): number {
  const first = sequences.findIndex((sequence) => !isPlainGreedy(sequence));
  return first < 0 ? sequences.length : first;
}

/**
 * Prepares the head's rows for the next positions of one sequence. Row i holds the logits after i draft tokens;
 * `sampledToken` samples from it once the sequence has accepted these tokens.
 * @returns whether the argmax graph alone decides
 */
export function prepareVerification(head: Head, sequence: Sequence, draft: readonly number[]): boolean {
  const isArgmax = isPlainGreedy(sequence);
  const rows = draft.length + 1;
  if (penalizesInPlace(sequence))
    for (let row = 0; row < rows; row++) head.applyPenalties(row, sequence.dryPenalties(draft.slice(0, row)));
  choose(head, isArgmax ? rows : 0, isArgmax ? [] : new Array<Sequence>(rows).fill(sequence));
  return isArgmax;
}

/** Samples the token of a prepared row. @param isArgmax whether the argmax graph decides */
export function sampledToken(head: Head, row: number, sequence: Sequence, isArgmax: boolean): SampledToken {
  return isArgmax ? { token: Number(head.argmaxIds[row]), logprobs: null } : drawn(head, row, sequence);
}

/**
 * Drafts a token from row 0 with the random draw that the sequence will use for this position. The draft is then equal
 * to the sampled token wherever both distributions agree.
 * @param ahead draws before this one
 * @param confident least probability at temperature 1; below it, the result is null
 */
export function draftToken(head: Head, sequence: Sequence, ahead: number, confident: number): number | null {
  head.applyPenalties(0, sequence.dryPenalties());
  choose(head, 0, [sequence]);
  const selected = head.selected(0);
  const { sampling } = sequence.request;
  const token = sampleTop(selected, sampling, sampling.temperature > 0 ? sequence.peekDraw(ahead) : 0);
  if (token === null) return null;
  const logit = selected.values[selected.ids.indexOf(BigInt(token))] ?? -Infinity;
  return Math.exp(logit - selected.lse) >= confident ? token : null;
}

/** Finds the most likely tokens of `plain` rows, and selects the top K of the rows of the sequences behind them. */
function choose(head: Head, plain: number, sequences: readonly Sequence[]): void {
  sequences.forEach(({ request }, index) => {
    const { temperature } = request.sampling;
    head.inverseTemperatures[plain + index] = temperature > 0 ? 1 / temperature : 1;
    head.targets[plain + index] = 0n;
  });
  head.choose(plain, sequences.length);
}

/** Log-probability of one token in a selected row, with alternatives. @param logit the token's logit */
export function describe(row: SelectedRow, logit: number, alternatives: number): TokenLogprobs {
  return {
    logprob: logit - row.lse,
    top: Array.from({ length: Math.min(alternatives, row.values.length) }, (_, i) => [
      Number(row.ids[i]),
      (row.values[i] ?? 0) - row.lse,
    ]),
  };
}

/** Draws the token of a selected row. */
function drawn(head: Head, row: number, sequence: Sequence): SampledToken {
  const { request } = sequence;
  const selected = head.selected(row);
  const amounts = penalizesInPlace(sequence) ? NONE : sequence.dryPenalties();
  const sampling = rulesWith(request.sampling, amounts, mustGoOn(sequence) ? request.stopTokens : []);
  const u = sequence.draw();
  const direct = sequence.wantsAllLogits || sampling !== request.sampling ? null : sampleTop(selected, sampling, u);
  let token: number;
  let logit: number;
  if (direct !== null) {
    token = direct;
    logit = selected.values[selected.ids.indexOf(BigInt(token))] ?? NaN;
  } else {
    const logits = head.fullLogits(row);
    const own = logits.slice();
    if (sequence.constraint?.enforced && sequence.constraint.mask) applyMask(own, sequence.constraint.mask);
    // If the mask excludes every token, the model's most likely token is the fallback.
    token = sampleFull(own, sampling, sequence.counts, u) ?? Number(selected.ids[0]);
    logit = logits[token] ?? NaN;
  }
  return { token, logprobs: request.logprobs === null ? null : describe(selected, logit, request.logprobs) };
}

/**
 * Whether DRY penalties may change the device's own logits, which spares reading the full row. Not for requests with
 * log-probabilities, which are those before penalties, and not under a multiplicative penalty.
 */
function penalizesInPlace(sequence: Sequence): boolean {
  return sequence.request.logprobs === null && !sequence.wantsAllLogits;
}

/** Whether min_tokens forbids an end token. An answer that can only end may end. */
function mustGoOn(sequence: Sequence): boolean {
  const { request, generated } = sequence;
  return generated < request.minTokens && request.stopTokens.length > 0 && !mayOnlyEnd(sequence);
}

/** Whether the constraint allows end tokens only. */
function mayOnlyEnd({ request, constraint }: Sequence): boolean {
  if (constraint?.enforced !== true || constraint.mask === null) return false;
  return constraint.mask.every((allowed, id) => allowed !== 1 || request.stopTokens.includes(id));
}
