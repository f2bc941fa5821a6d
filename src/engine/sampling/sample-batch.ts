/**
 * Samples one token per row from a batch's logits.
 *
 * Must not know: slots, scheduling.
 */
import type { Head, SelectedRow } from '../../model/head.js';
import type { Landed, Sampling, TokenLogprobs } from '../../protocol/index.js';
import { repetitionPenalties } from './dry.js';
import { sampleRow } from './sample-row.js';
import { needsAllLogits, rulesUnder, rulesWith, sampleTop } from './sampler.js';
import type { Sequence } from '../../scheduler/sequence.js';

/** No amounts off logits. */
const NONE: ReadonlyMap<number, number> = new Map();

export interface SampledToken {
  readonly token: number;
  readonly logprobs: TokenLogprobs | null;
  /** For an end token that the end pressure chose. */
  readonly landed?: Omit<Landed, 'at'>;
}

/** Whether a grammar or the request changes single logits of the next token: the largest ones then can't decide alone. */
export function wantsAllLogits({ request, constraint }: Sequence): boolean {
  return needsAllLogits(request.sampling) || constraint?.enforced === true;
}

/** DRY penalties of the next token, by token id. @param draft tokens that come before it */
export function dryPenalties(sequence: Sequence, draft: readonly number[] = []): ReadonlyMap<number, number> {
  const { dry, tokens, promptLength } = sequence;
  if (dry === null) return NONE;
  return repetitionPenalties(draft.length > 0 ? [...tokens, ...draft] : tokens, promptLength, dry);
}

/** Greedy without any other setting: the argmax graph alone decides. These rows must come first in the batch. */
export function isPlainGreedy(sequence: Sequence): boolean {
  return (
    sequence.request.sampling.temperature === 0 &&
    sequence.request.logprobs === null &&
    !wantsAllLogits(sequence) &&
    !mustGoOn(sequence) &&
    plannedPressure(sequence, 0) === 0
  );
}

/**
 * Brings what sampling needs of a batch's logits to the host: the step's only transfer from the device.
 * @param sequences sequences by row, plain greedy ones first
 */
export function prepareBatch(head: Head, sequences: readonly Sequence[]): void {
  sequences.forEach((sequence, row) => {
    if (penalizesInPlace(sequence, 0)) head.applyPenalties(row, dryPenalties(sequence));
  });
  const plain = plainRows(sequences);
  choose(head, plain, sequences.slice(plain));
}

/** Prepares the rows of a step, or those of the draft of its only row. */
export function prepareTokens(
  head: Head,
  rows: readonly { readonly sequence: Sequence }[],
  draft: { readonly tokens: readonly number[]; isArgmax: boolean } | null,
): void {
  const sequences = rows.map(({ sequence }) => sequence);
  const [lone] = sequences;
  if (draft !== null && lone !== undefined) draft.isArgmax = prepareVerification(head, lone, draft.tokens);
  else prepareBatch(head, sequences);
}

/** Samples the tokens of a prepared batch. */
export function sampleBatch(head: Head, sequences: readonly Sequence[]): SampledToken[] {
  const plain = plainRows(sequences);
  return sequences.map((sequence, row) => sampledToken(head, row, sequence, row < plain, 0));
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
  const isArgmax = isPlainGreedy(sequence) && sequence.endPressures.every(({ amount }) => amount === 0);
  const rows = draft.length + 1;
  for (let row = 0; row < rows; row++)
    if (penalizesInPlace(sequence, row)) head.applyPenalties(row, dryPenalties(sequence, draft.slice(0, row)));
  choose(head, isArgmax ? rows : 0, isArgmax ? [] : new Array<Sequence>(rows).fill(sequence));
  return isArgmax;
}

/**
 * Samples the token of a prepared row.
 * @param isArgmax whether the argmax graph decides
 * @param ahead draft tokens that the sequence has accepted since the row was prepared
 */
export function sampledToken(
  head: Head,
  row: number,
  sequence: Sequence,
  isArgmax: boolean,
  ahead: number,
): SampledToken {
  return isArgmax ? { token: Number(head.argmaxIds[row]), logprobs: null } : drawn(head, row, sequence, ahead);
}

/**
 * Drafts a token from row 0 with the random draw that the sequence will use for this position. The draft is then equal
 * to the sampled token wherever both distributions agree.
 * @param ahead draws before this one
 * @param confident least probability at temperature 1; below it, the result is null
 */
export function draftToken(head: Head, sequence: Sequence, ahead: number, confident: number): number | null {
  head.applyPenalties(0, dryPenalties(sequence));
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
function drawn(head: Head, row: number, sequence: Sequence, ahead: number): SampledToken {
  const { request, constraint } = sequence;
  const selected = head.selected(row);
  const amounts = penalizesInPlace(sequence, ahead) ? NONE : dryPenalties(sequence);
  const rules = rulesWith(request.sampling, amounts, mustGoOn(sequence) ? request.stopTokens : []);
  const pressure = pressureOn(sequence, ahead, selected);
  const u = sequence.draw();
  const mask = constraint?.enforced === true ? constraint.mask : null;
  const all = (): Float32Array => head.fullLogits(row);
  // If the mask excludes every token, the model's most likely token is the fallback.
  const sample = (under: Sampling): number =>
    sampleRow(selected, all, under, () => sequence.counts, mask, u) ?? Number(selected.ids[0]);
  const token = sample(rulesUnder(rules, pressure, request.stopTokens));
  const isEnd = (id: number): boolean => request.stopTokens.includes(id);
  const hasLanded = pressure > 0 && isEnd(token) && !isEnd(sample(rules));
  const logit = (): number => selected.values[selected.ids.indexOf(BigInt(token))] ?? all()[token] ?? NaN;
  return {
    token,
    logprobs: request.logprobs === null ? null : describe(selected, logit(), request.logprobs),
    ...(hasLanded && {
      landed: { pressure, probability: probabilityOfAny(all(), selected.lse, request.stopTokens) },
    }),
  };
}

/** Probability of any of these tokens, at temperature 1. */
function probabilityOfAny(logits: Float32Array, lse: number, endTokens: readonly number[]): number {
  return Math.min(
    1,
    [...new Set(endTokens)].reduce((sum, id) => sum + Math.exp((logits[id] ?? -Infinity) - lse), 0),
  );
}

/** End pressure by the place in the text; a mark inside of a number or an abbreviation lifts it later (`pressureOn`). */
function plannedPressure({ endPressures }: Sequence, ahead: number): number {
  return endPressures[ahead]?.amount ?? 0;
}

/** End pressure on a row, unless the model's preferred token shows that the sentence goes on. */
function pressureOn({ endPressures, request }: Sequence, ahead: number, { ids }: SelectedRow): number {
  const { amount = 0, isLifted = null } = endPressures[ahead] ?? {};
  if (amount === 0 || isLifted === null) return amount;
  const best = Number(ids[0]);
  return !request.stopTokens.includes(best) && isLifted(best) ? 0 : amount;
}

/**
 * Whether DRY penalties may change the device's own logits, which spares reading the full row. Not for rows whose
 * log-probabilities are reported, which are those before penalties, and not under a multiplicative penalty.
 */
function penalizesInPlace(sequence: Sequence, ahead: number): boolean {
  const isReported = sequence.request.logprobs !== null || plannedPressure(sequence, ahead) > 0;
  return !isReported && !wantsAllLogits(sequence);
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
