/**
 * The usage of an answer, and its plan, times and outcome for the `sortie` field of a response.
 *
 * Must not know: the engine, HTTP.
 */
import type { Budget, DraftSource, EndedEvent, PlannedEvent, ServiceClass } from '../../../protocol/index.js';
import { actualTimes } from '../../telemetry/sequences.js';
import { monotonicMs } from '../../../util/clock.js';
import { isKept, type Outcome, outcomeOf, worstOf } from '../../../protocol/outcome.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';
import type { ServedModel } from '../served-model.js';
import type { Choice } from './choice.js';
import type { GenerationRequest } from './read-request.js';

interface AnswerFacts {
  readonly request: GenerationRequest;
  readonly choices: readonly Choice[];
  /** The ends of the choices so far, by their index. */
  readonly ends: readonly (EndedEvent | undefined)[];
  /** The outcomes of the choices so far, by their index. */
  readonly outcomes: readonly (Outcome | undefined)[];
  /** When the last choice finished; null while one runs. */
  readonly finishedAt: number | null;
  readonly exits: ServedModel['exits'];
}

/** Times are in ms. The slowest choice counts. */
export function reportOf(facts: AnswerFacts): Omit<SortieReport, 'sampling'> {
  const { choices, ends } = facts;
  const { arrivedAt, depth } = facts.request.engine;
  const { budget } = depth;
  const drafts = draftsOf(ends);
  const plans = choices.flatMap((choice) => choice.plan ?? []);
  const actual = (facts.finishedAt ?? monotonicMs()) - arrivedAt;
  const times = ends.flatMap((end, i) => {
    const { lastTokenAt: lastAt = null, completionTokens: tokens = 0 } = choices[i] ?? {};
    return end === undefined ? [] : actualTimes({ arrivedAt, lastAt, tokens }, end);
  });
  const ttft = worst(times.map(({ ttftMs }) => ttftMs));
  const tpot = worst(times.map(({ tpotMs }) => tpotMs));
  const started = worst(ends.map((end) => end?.startedAt ?? null));
  const probability = plans.reduce<number | null>(
    (least, each) => (each.probability === null ? least : Math.min(least ?? 1, each.probability)),
    null,
  );
  return {
    plan: {
      service_class: serviceClass(budget, choices),
      exit_layer: plans[0]?.exit ?? 0,
      reason: plans[0]?.reason ?? null,
      ...expectedAccuracy(facts.exits, plans[0]),
      landing: plans[0]?.landing ?? null,
      expected_tokens: expectedTokens(plans),
      expected_tokens_p90: Math.round(plans.reduce((sum, each) => sum + each.expectedTokensP90, 0)),
      probability: probability === null ? null : rounded(probability),
      predicted_ttft_ms: slowest(plans, 'predictedTtftMs'),
      predicted_tpot_ms: slowest(plans, 'predictedTpotMs'),
    },
    exit_layers: exitLayersOf(choices),
    predicted_ms: slowest(plans, 'predictedMs'),
    predicted_p10_ms: slowest(plans, 'predictedP10Ms'),
    predicted_p90_ms: slowest(plans, 'predictedP90Ms'),
    actual_ms: rounded(actual),
    ttft_ms: ttft === null ? null : rounded(ttft),
    tpot_ms: tpot === null ? null : rounded(tpot),
    budget_ms: budget?.totalMs ?? null,
    ...outcomeFields(facts),
    landed: landedOf(choices, ends),
    queue_ms: started === null ? null : rounded(Math.max(0, started - arrivedAt)),
    draft_tokens: drafts.drafted,
    accepted_draft_tokens: drafts.accepted,
  };
}

/** The accuracy of the planned exit, where the model folder has a measurement. */
function expectedAccuracy(exits: ServedModel['exits'], plan: PlannedEvent | undefined) {
  const accuracy = exits.find(({ layer }) => layer === plan?.exit)?.quality.right;
  return accuracy === undefined ? {} : { expected_accuracy: accuracy };
}

function outcomeFields({ request: { engine }, outcomes }: AnswerFacts) {
  const known = outcomes.flatMap((each) => each ?? []);
  const outcome = engine.isDryRun === true ? null : worstOf(known);
  return {
    outcome,
    ...(outcomes.length > 1 && outcome !== null && { outcomes: known }),
    met: engine.depth.budget === null || outcome === null ? null : isKept(outcome),
  };
}

/** @param endedAt when the gateway got the end */
export function choiceOutcome(
  { engine }: GenerationRequest,
  choice: Choice,
  end: EndedEvent,
  endedAt: number,
): Outcome {
  const { arrivedAt, depth } = engine;
  const { lastTokenAt: lastAt, completionTokens: tokens } = choice;
  const { awaitedMs: ttftMs, tpotMs } = actualTimes({ arrivedAt, lastAt, tokens }, end);
  return outcomeOf(choice.ending(end), { totalMs: endedAt - arrivedAt, ttftMs, tpotMs }, depth.budget);
}

type Ends = readonly (EndedEvent | undefined)[];

/** @param ends the ends of the choices so far, by their index */
export function usageOf({ prompts, n }: GenerationRequest, choices: readonly Choice[], ends: Ends): Usage {
  const sum = (counts: readonly number[]): number => counts.reduce((all, count) => all + count, 0);
  const prompt = sum(prompts.map(({ ids }) => ids.length));
  const completion = sum(choices.map(({ completionTokens }) => completionTokens));
  const predicted = draftsOf(ends, 'prediction');
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: sum(prompts.map((_, i) => ends[i * n]?.cachedTokens ?? 0)) },
    completion_tokens_details: {
      reasoning_tokens: sum(choices.map(({ thoughtTokens }) => thoughtTokens)),
      accepted_prediction_tokens: predicted.accepted,
      rejected_prediction_tokens: predicted.drafted - predicted.accepted,
    },
  };
}

/**
 * Draft counts of all choices.
 * @param from counts only this source; absent: all sources
 */
function draftsOf(ends: Ends, from?: DraftSource): { drafted: number; accepted: number } {
  const total = { drafted: 0, accepted: 0 };
  for (const { source, drafted, accepted } of ends.flatMap((end) => end?.drafts ?? [])) {
    if (from !== undefined && source !== from) continue;
    total.drafted += drafted;
    total.accepted += accepted;
  }
  return total;
}

/** Tokens of all choices so far by the exit layer that emitted them. */
export function exitLayersOf(choices: readonly Choice[]): SortieReport['exit_layers'] {
  const layers: Record<string, number> = {};
  for (const { exitLayers } of choices) {
    for (const [layer, count] of exitLayers) layers[layer] = (layers[layer] ?? 0) + count;
  }
  return layers;
}

/** The weakest class of all choices. A choice whose deadline came before its plan has no capacity. */
function serviceClass(budget: Budget | null, choices: readonly Choice[]): ServiceClass {
  if (budget === null) return 'none';
  const classes = choices.map(({ plan }) => plan?.serviceClass ?? 'best_effort');
  return WEAKEST_FIRST.find((each) => classes.includes(each)) ?? 'none';
}

/** The earliest landing of the choices. A stop string ends a choice before its landing. */
function landedOf(
  choices: readonly Pick<Choice, 'stopString'>[],
  ends: readonly (EndedEvent | undefined)[],
): SortieReport['landed'] {
  const landings = choices.flatMap(({ stopString }, index) => {
    const landed = ends[index]?.landed;
    return landed === undefined || stopString !== null ? [] : [{ ...landed, index }];
  });
  const [first, ...others] = landings;
  if (first === undefined) return null;
  const { at, pressure, probability } = others.reduce((least, each) => (each.at < least.at ? each : least), first);
  const choicesLanded = landings.map(({ index }) => index);
  // Most landings are at places where the model rarely ends: thousandths would show 0.
  const rare = Math.round(probability * 1e6) / 1e6;
  return { at_token: at, pressure: rounded(pressure), probability: rare, choices: choicesLanded };
}

function worst(values: readonly (number | null)[]): number | null {
  return values.reduce((most, value) => (value === null ? most : Math.max(most ?? value, value)), null);
}

const WEAKEST_FIRST: readonly ServiceClass[] = ['best_effort', 'guaranteed'];

type Predicted = 'predictedTtftMs' | 'predictedTpotMs' | 'predictedMs' | 'predictedP10Ms' | 'predictedP90Ms';

function slowest(plans: readonly PlannedEvent[], time: Predicted): number {
  return rounded(Math.max(0, ...plans.map((plan) => plan[time])));
}

/** Predicted median tokens of all choices together. */
export function expectedTokens(plans: readonly PlannedEvent[]): number {
  return Math.round(plans.reduce((sum, plan) => sum + plan.expectedTokens, 0));
}

/** Rounds to microseconds, or to thousandths of a probability. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
