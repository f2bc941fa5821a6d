/**
 * Samples one token per row from a batch's logits.
 *
 * Must not know: slots, scheduling.
 */
import type { Head, SelectedRow } from '../model/head.js';
import type { Landed, Sampling, TokenLogprobs } from '../../protocol/index.js';
import { changesLogits } from '../../protocol/request.js';
import { repetitionPenalties, rulesUnder, rulesWith, sampleTop } from './sampler.js';
import { sampleRow } from './sample-row.js';
import type { Answer } from '../answer.js';
import { LANDING } from '../landing/pressure.js';

/** No amounts off logits. */
const NONE: ReadonlyMap<number, number> = new Map();

export interface SampledToken {
  readonly token: number;
  readonly logprobs: TokenLogprobs | null;
  /** For an end token that the end pressure chose. */
  readonly landed?: Omit<Landed, 'at'>;
}

/**
 * Whether a grammar or the request changes single logits of the next token: the largest ones then can't decide alone.
 */
export function wantsAllLogits({ request, constraint }: Answer): boolean {
  return changesLogits(request.sampling) || constraint?.enforced === true;
}

/** DRY penalties of the next token, by token id. @param draft tokens that come before it */
export function dryPenalties(answer: Answer, draft: readonly number[] = []): ReadonlyMap<number, number> {
  const { dry, tokens, promptLength } = answer;
  if (dry === null) return NONE;
  return repetitionPenalties(draft.length > 0 ? [...tokens, ...draft] : tokens, promptLength, dry);
}

/** Greedy without any other setting: the argmax graph alone decides. These rows must come first in the batch. */
export function isPlainGreedy(answer: Answer): boolean {
  return (
    answer.request.sampling.temperature === 0 &&
    answer.request.logprobs === null &&
    !wantsAllLogits(answer) &&
    !mustGoOn(answer) &&
    plannedPressure(answer, 0) === 0
  );
}

/**
 * Brings what sampling needs of a batch's logits to the host: the step's only transfer from the device.
 * @param answers answers by row, plain greedy ones first
 */
export function prepareBatch(head: Head, answers: readonly Answer[]): void {
  answers.forEach((answer, row) => {
    if (penalizesInPlace(answer, 0)) head.applyPenalties(row, dryPenalties(answer));
  });
  const plain = plainRows(answers);
  choose(head, plain, answers.slice(plain));
}

/** Samples the tokens of a prepared batch. */
export function sampleBatch(head: Head, answers: readonly Answer[]): SampledToken[] {
  const plain = plainRows(answers);
  return answers.map((answer, row) => sampledToken(head, row, answer, row < plain, 0));
}

function plainRows(answers: readonly Answer[]): number {
  const first = answers.findIndex((answer) => !isPlainGreedy(answer));
  return first < 0 ? answers.length : first;
}

/**
 * Prepares the head's rows for the next positions of one answer. Row i holds the logits after i draft tokens;
 * `sampledToken` samples from it once the answer has accepted these tokens.
 * @returns whether the argmax graph alone decides
 */
export function prepareVerification(head: Head, answer: Answer, draft: readonly number[]): boolean {
  const isArgmax = isPlainGreedy(answer) && answer.endPressures.every(({ amount }) => amount === 0);
  const rows = draft.length + 1;
  for (let row = 0; row < rows; row++)
    if (penalizesInPlace(answer, row)) head.applyPenalties(row, dryPenalties(answer, draft.slice(0, row)));
  choose(head, isArgmax ? rows : 0, isArgmax ? [] : new Array<Answer>(rows).fill(answer));
  return isArgmax;
}

/**
 * Samples the token of a prepared row.
 * @param isArgmax whether the argmax graph decides
 * @param ahead draft tokens that the answer has accepted since the row was prepared
 */
export function sampledToken(head: Head, row: number, answer: Answer, isArgmax: boolean, ahead: number): SampledToken {
  return isArgmax ? { token: Number(head.argmaxIds[row]), logprobs: null } : drawn(head, row, answer, ahead);
}

/**
 * Drafts a token from row 0 with the random draw that the answer will use for this position. The draft is then equal
 * to the sampled token wherever both distributions agree.
 * @param ahead draws before this one
 * @returns null where the largest logits do not decide
 */
export function draftToken(head: Head, answer: Answer, ahead: number): number | null {
  head.applyPenalties(0, dryPenalties(answer));
  choose(head, 0, [answer]);
  const { sampling } = answer.request;
  return sampleTop(head.selected(0), sampling, sampling.temperature > 0 ? answer.peekDraw(ahead) : 0);
}

/** Finds the most likely tokens of `plain` rows, and selects the top K of the rows of the answers behind them. */
function choose(head: Head, plain: number, answers: readonly Answer[]): void {
  answers.forEach(({ request }, index) => {
    const { temperature } = request.sampling;
    head.inverseTemperatures[plain + index] = temperature > 0 ? 1 / temperature : 1;
    head.targets[plain + index] = 0n;
  });
  head.choose(plain, answers.length);
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
function drawn(head: Head, row: number, answer: Answer, ahead: number): SampledToken {
  const { request, constraint } = answer;
  const selected = head.selected(row);
  const amounts = penalizesInPlace(answer, ahead) ? NONE : dryPenalties(answer);
  const rules = rulesWith(request.sampling, amounts, mustGoOn(answer) ? request.stopTokens : []);
  const pressure = pressureOn(answer, ahead, selected);
  const u = answer.draw();
  const mask = constraint?.enforced === true ? constraint.mask : null;
  const all = (): Float32Array => head.fullLogits(row);
  // If the mask excludes every token, the model's most likely token is the fallback.
  const sample = (under: Sampling): number =>
    sampleRow(selected, all, under, () => answer.counts, mask, u) ?? Number(selected.ids[0]);
  const token = sample(rulesUnder(rules, pressure, request.stopTokens));
  const isEnd = (id: number): boolean => request.stopTokens.includes(id);
  const hasLanded = pressure > 0 && isEnd(token) && !isEnd(sample(rules));
  const logit = (): number => selected.values[selected.ids.indexOf(BigInt(token))] ?? all()[token] ?? NaN;
  return {
    token,
    logprobs: request.logprobs === null ? null : describe(selected, logit(), request.logprobs),
    ...(hasLanded && { landed: landedBy(pressure, probabilityOfAny(all(), selected.lse, request.stopTokens)) }),
  };
}

function landedBy(pressure: number, probability: number): Omit<Landed, 'at'> {
  return { pressure, probability, ...(probability >= LANDING.ownEnd && { isOwn: true }) };
}

/** Probability of any of these tokens, at temperature 1. */
function probabilityOfAny(logits: Float32Array, lse: number, endTokens: readonly number[]): number {
  return Math.min(
    1,
    [...new Set(endTokens)].reduce((sum, id) => sum + Math.exp((logits[id] ?? -Infinity) - lse), 0),
  );
}

/**
 * End pressure by the place in the text; a mark inside of a number or an abbreviation lifts it later (`pressureOn`).
 */
function plannedPressure({ endPressures }: Answer, ahead: number): number {
  return endPressures[ahead]?.amount ?? 0;
}

/** End pressure on a row, unless the model's preferred token shows that the sentence goes on. */
function pressureOn({ endPressures, request }: Answer, ahead: number, { ids }: SelectedRow): number {
  const { amount = 0, isLifted = null } = endPressures[ahead] ?? {};
  if (amount === 0 || isLifted === null) return amount;
  const best = Number(ids[0]);
  return !request.stopTokens.includes(best) && isLifted(best) ? 0 : amount;
}

/**
 * Whether DRY penalties may change the device's own logits, which spares reading the full row. Not for rows whose
 * log-probabilities are reported, which are those before penalties, and not under a multiplicative penalty.
 */
function penalizesInPlace(answer: Answer, ahead: number): boolean {
  const isReported = answer.request.logprobs !== null || plannedPressure(answer, ahead) > 0;
  return !isReported && !wantsAllLogits(answer);
}

/** Whether min_tokens forbids an end token. An answer that can only end may end. */
function mustGoOn(answer: Answer): boolean {
  const { request, generated } = answer;
  return generated < request.minTokens && request.stopTokens.length > 0 && !mayOnlyEnd(answer);
}

/** Whether the constraint allows end tokens only. */
function mayOnlyEnd({ request, constraint }: Answer): boolean {
  if (constraint?.enforced !== true || constraint.mask === null) return false;
  return constraint.mask.every((allowed, id) => allowed !== 1 || request.stopTokens.includes(id));
}
