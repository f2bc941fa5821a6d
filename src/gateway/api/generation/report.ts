/**
 * The usage of an answer, and its plan, times and outcome for the `sortie` field of a response.
 *
 * Must not know: the engine, HTTP.
 */
import type { Budget, DraftSource, EndedEvent, PlannedEvent, ServiceClass } from '../../../protocol/index.js';
import { actualTimes } from '../../telemetry/requests.js';
import { monotonicMs } from '../../../util/clock.js';
import { isKept, type Outcome, outcomeOf, worstOf } from '../../../protocol/outcome.js';
import { present } from '../../../util/present.js';
import { samplingFields } from '../params/sampling.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';
import type { ServedModel } from '../served-model.js';
import type { Choice } from './choice.js';
import type { GenerationRequest } from './read-request.js';

type Choices = readonly Choice[];
type Exits = ServedModel['exits'];

/**
 * The report of an answer so far. Times are in ms. Of several choices the worst one counts. A field without a value is
 * absent.
 * @param finishedAt when the last choice finished; null while one runs
 */
export function reportOf(
  { engine, showsSampling }: GenerationRequest,
  choices: Choices,
  exits: Exits,
  finishedAt: number | null,
): SortieReport {
  const { arrivedAt, isDryRun, sampling } = engine;
  const { budget } = engine.depth;
  const plans = choices.flatMap(({ plan }) => plan ?? []);
  const times = choices.flatMap((choice) => (choice.end === null ? [] : timesOf(choice, choice.end, arrivedAt)));
  const outcomes = isDryRun === true ? [] : choices.flatMap(({ outcome }) => outcome ?? []);
  const outcome = worstOf(outcomes);
  const started = choices.flatMap(({ end }) => end?.startedAt ?? []);
  const drafts = draftsOf(choices);
  return present({
    plan: planOf(budget, choices, exits),
    exit_layers: exitLayersOf(choices),
    predicted_ms: most(plans.map(({ predictedMs }) => predictedMs)),
    predicted_p10_ms: most(plans.map(({ predictedP10Ms }) => predictedP10Ms)),
    predicted_p90_ms: most(plans.map(({ predictedP90Ms }) => predictedP90Ms)),
    actual_ms: rounded((finishedAt ?? monotonicMs()) - arrivedAt),
    ttft_ms: most(times.map(({ ttftMs }) => ttftMs)),
    tpot_ms: most(times.map(({ tpotMs }) => tpotMs)),
    budget_ms: budget?.totalMs,
    first_sentence_ms: most(choices.flatMap(({ sentenceAt: at }) => (at === null ? [] : at - arrivedAt))),
    outcome,
    outcomes: choices.length > 1 && outcome !== null ? outcomes : null,
    met: budget === null || outcome === null ? null : isKept(outcome),
    landed: landedOf(choices),
    queue_ms: most(started.map((at) => Math.max(0, at - arrivedAt))),
    draft_tokens: drafts.drafted,
    accepted_draft_tokens: drafts.accepted,
    sampling: showsSampling ? samplingFields(sampling) : null,
  });
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
    landing: plan.landing,
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

/** The earliest landing of the choices. A stop string ends a choice before its landing. */
function landedOf(choices: Choices): SortieReport['landed'] | null {
  const landings = choices.flatMap(({ stopString, end }, index) =>
    end?.landed === undefined || stopString !== null ? [] : [{ ...end.landed, index }],
  );
  const first = landings.toSorted((a, b) => a.at - b.at)[0];
  if (first === undefined) return null;
  return {
    at_token: first.at,
    pressure: rounded(first.pressure),
    // Most landings are at places where the model rarely ends: thousandths would show 0.
    probability: Math.round(first.probability * 1e6) / 1e6,
    choices: landings.map(({ index }) => index),
  };
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

/** Rounds to microseconds, or to thousandths of a probability. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
