/**
 * The usage of an answer of the local model, and its record.
 *
 * Must not know: the engine, HTTP.
 */
import type { Budget, DraftSource, EndedEvent, PlannedEvent, ServiceClass } from '../../../protocol/index.js';
import { type AnswerRecord, type Landed, rounded } from '../../telemetry/answer-record.js';
import { actualTimes } from '../../telemetry/requests.js';
import { monotonicMs } from '../../../util/clock.js';
import { type Outcome, outcomeOf, worstOf } from '../../../protocol/outcome.js';
import { present } from '../../../util/present.js';
import { samplingFields } from '../params/sampling.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';
import type { ApiError } from '../errors.js';
import type { ServedModel } from '../served-model.js';
import type { Choice } from './choice.js';
import type { GenerationRequest } from './read-request.js';

type Choices = readonly Choice[];
type Exits = ServedModel['exits'];

/** The record of an answer of the local model. */
export type LocalRecord = AnswerRecord<ReturnType<typeof detailsOf>>;

/**
 * The record of an answer so far. Of several choices the worst one counts.
 * @param finishedAt when the last choice finished; null while one runs
 * @param error ended the answer; null: none
 */
export function recordOf(
  request: GenerationRequest,
  choices: Choices,
  exits: Exits,
  finishedAt: number | null,
  error: ApiError | null,
): LocalRecord {
  const { arrivedAt, isDryRun, depth } = request.engine;
  const details = detailsOf(request, choices, exits);
  const { ttftMs } = mostTimes(choices, arrivedAt);
  const hasText = choices.some(({ completionTokens }) => completionTokens > 0);
  const outcome = isDryRun === true ? null : worstOf(choices.flatMap((choice) => choice.outcome ?? []));
  return {
    source: 'local',
    model: request.modelName,
    upstream: null,
    budget: depth.budget,
    ttftMs,
    details,
    outcome: error === null ? outcome : error.outcome(hasText),
    finishReason: error === null ? (choices[0]?.finishReason ?? null) : null,
    isGuaranteed: details.plan.service_class === 'guaranteed',
    landed: error === null ? landedOf(choices) : null,
    usage: usageOf(request, choices),
    actualMs: (error === null ? (finishedAt ?? monotonicMs()) : monotonicMs()) - arrivedAt,
  };
}

/** The record of a request that is refused while it is read, such as one whose prompt takes its budget. */
export const refusedRecord = (
  outcome: Outcome,
  model: string,
  budget: Budget | null,
  actualMs: number,
): AnswerRecord => ({
  source: 'local',
  model,
  upstream: null,
  budget,
  outcome,
  actualMs,
  finishReason: null,
  isGuaranteed: false,
  landed: null,
  ttftMs: null,
  details: {},
  usage: { prompt_tokens: 0, completion_tokens: 0 },
});

/** The fields of the report that an answer of the local model alone has. Times are in ms. */
function detailsOf({ engine, showsSampling }: GenerationRequest, choices: Choices, exits: Exits) {
  const { arrivedAt, isDryRun, sampling } = engine;
  const plans = choices.flatMap(({ plan }) => plan ?? []);
  const outcomes = isDryRun === true ? [] : choices.flatMap(({ outcome }) => outcome ?? []);
  const started = choices.flatMap(({ end }) => end?.startedAt ?? []);
  const drafts = draftsOf(choices);
  return present({
    plan: planOf(engine.depth.budget, choices, exits),
    exit_layers: exitLayersOf(choices),
    predicted_ms: most(plans.map(({ predictedMs }) => predictedMs)),
    predicted_p10_ms: most(plans.map(({ predictedP10Ms }) => predictedP10Ms)),
    predicted_p90_ms: most(plans.map(({ predictedP90Ms }) => predictedP90Ms)),
    tpot_ms: mostTimes(choices, arrivedAt).tpotMs,
    first_sentence_ms: most(choices.flatMap(({ sentenceAt: at }) => (at === null ? [] : at - arrivedAt))),
    outcomes: choices.length > 1 && outcomes.length > 0 ? outcomes : null,
    queue_ms: most(started.map((at) => Math.max(0, at - arrivedAt))),
    ...(drafts.drafted > 0 && { draft_tokens: drafts.drafted, accepted_draft_tokens: drafts.accepted }),
    sampling: showsSampling ? samplingFields(sampling) : null,
  });
}

/** The largest times of the choices that have ended. */
function mostTimes(choices: Choices, arrivedAt: number) {
  const times = choices.flatMap((choice) => (choice.end === null ? [] : timesOf(choice, choice.end, arrivedAt)));
  return { ttftMs: most(times.map(({ ttftMs }) => ttftMs)) ?? null, tpotMs: most(times.map(({ tpotMs }) => tpotMs)) };
}

const WEAKEST_FIRST: readonly ServiceClass[] = ['best_effort', 'guaranteed'];

/** The plans at admission, of the weakest class. A choice whose deadline came before its plan has none. */
function planOf(budget: Budget | null, choices: Choices, exits: Exits): SortieReport['plan'] {
  const plans = choices.flatMap(({ plan }) => plan ?? []);
  const [plan] = plans;
  const classes = choices.map((choice) => choice.plan?.serviceClass ?? 'best_effort');
  const weakest = WEAKEST_FIRST.find((each) => classes.includes(each));
  const service_class = (budget === null ? null : weakest) ?? 'none';
  if (plan === undefined) return { service_class };
  const probabilities = plans.flatMap(({ probability }) => probability ?? []);
  return present({
    service_class,
    exit_layer: plan.exit,
    reason: plan.reason,
    expected_accuracy: exits.find(({ layer }) => layer === plan.exit)?.quality.accuracy,
    landing: budget === null ? null : plan.landing,
    expected_tokens: expectedTokens(plans),
    expected_tokens_p90: Math.round(plans.reduce((sum, each) => sum + each.expectedTokensP90, 0)),
    probability: probabilities.length === 0 ? null : rounded(Math.min(...probabilities)),
    predicted_ttft_ms: most(plans.map(({ predictedTtftMs }) => predictedTtftMs)),
    predicted_tpot_ms: most(plans.map(({ predictedTpotMs }) => predictedTpotMs)),
  });
}

function timesOf({ lastTokenAt: lastAt, completionTokens: tokens }: Choice, end: EndedEvent, arrivedAt: number) {
  return actualTimes({ arrivedAt, lastAt, tokens }, end);
}

/** @param endedAt when the gateway got the end */
export function choiceOutcome(
  { arrivedAt, depth }: GenerationRequest['engine'],
  choice: Choice,
  end: EndedEvent,
  endedAt: number,
): Outcome {
  const { awaitedMs: ttftMs, tpotMs } = timesOf(choice, end, arrivedAt);
  const sentenceMs = choice.sentenceAt === null ? null : choice.sentenceAt - arrivedAt;
  return outcomeOf(choice.ending(end), { totalMs: endedAt - arrivedAt, ttftMs, tpotMs, sentenceMs }, depth.budget);
}

export function usageOf({ prompts, n }: GenerationRequest, choices: Choices): Usage {
  const prompt = sum(prompts.map(({ ids }) => ids.length));
  const completion = sum(choices.map(({ completionTokens }) => completionTokens));
  const predicted = draftsOf(choices, 'prediction');
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(prompts.map((_, i) => choices[i * n]?.end?.cachedTokens ?? 0)) },
    completion_tokens_details: {
      reasoning_tokens: sum(choices.map(({ thoughtTokens }) => thoughtTokens)),
      accepted_prediction_tokens: predicted.accepted,
      rejected_prediction_tokens: predicted.drafted - predicted.accepted,
    },
  };
}

/** Draft counts of all choices. @param from counts only this source; absent: all sources */
function draftsOf(choices: Choices, from?: DraftSource): { readonly drafted: number; readonly accepted: number } {
  const counts = choices
    .flatMap(({ end }) => end?.drafts ?? [])
    .filter(({ source }) => from === undefined || source === from);
  return { drafted: sum(counts.map(({ drafted }) => drafted)), accepted: sum(counts.map(({ accepted }) => accepted)) };
}

/** Tokens of all choices so far by the exit layer that emitted them. */
export function exitLayersOf(choices: readonly Pick<Choice, 'exitLayers'>[]): SortieReport['exit_layers'] {
  const layers: Record<string, number> = {};
  for (const { exitLayers } of choices) {
    for (const [layer, count] of exitLayers) layers[layer] = (layers[layer] ?? 0) + count;
  }
  return layers;
}

/** The earliest landing of the choices. */
function landedOf(choices: Choices): Landed | null {
  const landings = choices.flatMap((choice): Landed[] => {
    const { end, completionTokens: at_token } = choice;
    if (end === null || choice.ending(end).end !== 'landed') return [];
    if (end.landed === undefined || end.reason === 'deadline') return [{ trigger: 'deadline', at_token }];
    // Most landings are at places where the model rarely ends: thousandths would show 0.
    const probability = Math.round(end.landed.probability * 1e6) / 1e6;
    return [{ trigger: 'budget', at_token: end.landed.at, probability }];
  });
  return landings.toSorted((a, b) => a.at_token - b.at_token)[0] ?? null;
}

/** The largest of the values that are known; undefined if none is. */
function most(values: readonly (number | null | undefined)[]): number | undefined {
  const known = values.flatMap((value) => value ?? []);
  return known.length === 0 ? undefined : rounded(Math.max(...known));
}

function sum(counts: readonly number[]): number {
  return counts.reduce((all, count) => all + count, 0);
}

/** Predicted median tokens of all choices together. */
export function expectedTokens(plans: readonly PlannedEvent[]): number {
  return Math.round(sum(plans.map(({ expectedTokens: tokens }) => tokens)));
}
