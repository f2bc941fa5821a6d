/**
 * The record of one answer at its end, as its client has it: of the local model, of a model elsewhere, or of its net.
 * Reports, headers, series, log lines and traces read this record alone.
 *
 * Must not know: HTTP, text.
 */
import { type BudgetTimes, isKept, type Outcome, OUTCOMES } from '../../protocol/outcome.js';
import { present } from '../../util/present.js';
import { BUDGET_CLASSES, type BudgetClass, type Series } from './series.js';

/** Whose text the answer is. `net`: the local model's, in place of an upstream's. */
export const SOURCES = ['local', 'upstream', 'net'] as const;

/** `budget`: the engine sought an end in time. The others: the text goes back to its last whole sentence. */
export const LANDING_TRIGGERS = ['budget', 'deadline', 'upstream_failed'] as const;

/** How an answer ended early, at a place where it may end. */
export interface Landed {
  readonly trigger: (typeof LANDING_TRIGGERS)[number];
  /** Tokens of the answer at its end. */
  readonly at_token: number;
  /** Of `budget`: the probability that the model would have ended there without one. */
  readonly probability?: number;
}

/** Times are in ms, from the arrival of the request. */
export interface AnswerRecord<Details extends object = object> {
  readonly source: (typeof SOURCES)[number];
  /** The model's name for clients, and the name of its upstream. */
  readonly model: string;
  readonly upstream: string | null;
  /** Of several choices the worst one. Null: the request itself is at fault. */
  readonly outcome: Outcome | null;
  /** Null: the answer failed. */
  readonly finishReason: string | null;
  readonly budget: BudgetTimes | null;
  readonly isGuaranteed: boolean;
  readonly landed: Landed | null;
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly actualMs: number;
  readonly ttftMs: number | null;
  /** Fields of the report that other sources have not. */
  readonly details: Details;
}

/** Rounds to microseconds, or to thousandths of a probability. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The `sortie` field of an answer. A field without a value is absent. */
export function reportOf<Details extends object>(record: AnswerRecord<Details>) {
  const { source, outcome, budget, landed, actualMs, ttftMs, details } = record;
  const core = present({
    source,
    outcome,
    met: budget === null || outcome === null ? null : isKept(outcome),
    budget_ms: budget?.totalMs,
    actual_ms: rounded(actualMs),
    ttft_ms: ttftMs === null ? null : rounded(ttftMs),
    landed,
  });
  return { ...core, ...details };
}

/** The headers of an answer whose status line is not out. */
export function answerHeaders({ source, outcome }: AnswerRecord): Record<string, string> {
  return outcome === null ? {} : { 'x-sortie-source': source, 'x-sortie-outcome': outcome };
}

/** The fields of the log line. Without `completion_tokens` it is no answered request. */
export function loggedAnswer(record: AnswerRecord): Readonly<Record<string, unknown>> {
  const { model, usage, finishReason, budget } = record;
  const { prompt_tokens, completion_tokens } = usage;
  // `sortie bench --trace` reads the whole budget from the log; the client knows its own.
  const { ttftMs, tpotMs, sentenceMs } = budget ?? {};
  const stated = present({ slo_ttft_ms: ttftMs, slo_tpot_ms: tpotMs, first_sentence_budget_ms: sentenceMs });
  const end = finishReason === null ? {} : { completion_tokens, finish_reason: finishReason };
  return { model, prompt_tokens, ...end, sortie: { ...reportOf(record), ...stated } };
}

/** Attributes of a span, named by OpenTelemetry's GenAI conventions where they exist. */
export function answerAttributes({ source, outcome, budget, landed, usage, ttftMs }: AnswerRecord) {
  return {
    'gen_ai.usage.input_tokens': usage.prompt_tokens,
    'gen_ai.usage.output_tokens': usage.completion_tokens,
    'gen_ai.response.time_to_first_chunk': ttftMs === null ? undefined : ttftMs / 1000,
    'sortie.source': source,
    'sortie.landed.at_token': landed?.at_token,
    'sortie.outcome': outcome ?? undefined,
    'sortie.budget_met': budget === null || outcome === null ? undefined : isKept(outcome),
  };
}

/**
 * Upper bounds of the classes of total budgets, ms: interactive turns, then longer answers, then batch work. They
 * separate the attainment of tight and loose budgets.
 */
const TOTAL_CLASSES: readonly (readonly [mostMs: number, name: BudgetClass])[] = [
  [250, 'up_to_250ms'],
  [1000, 'up_to_1s'],
  [4000, 'up_to_4s'],
  [16_000, 'up_to_16s'],
];

/** The class by the total budget; `per_token` for a budget that bounds only TTFT or TPOT. */
export function budgetClass(budget: Pick<BudgetTimes, 'totalMs'> | null): BudgetClass {
  if (budget === null) return 'none';
  const { totalMs } = budget;
  if (totalMs === null) return 'per_token';
  return TOTAL_CLASSES.find(([most]) => totalMs <= most)?.[1] ?? 'over_16s';
}

type Model = Pick<AnswerRecord, 'model' | 'upstream'>;

/** The labels of a model's series. The label of all series names the local model alone. */
export const modelLabels = ({
  model,
  upstream,
}: Model): { readonly model_name?: string; readonly upstream?: string } =>
  upstream === null ? {} : { model_name: model, upstream };

/** Lets the counts of a model's answers start at 0: an alert asks for an increase. */
export function startAnswers({ answers }: Series, model: Model): void {
  for (const source of model.upstream === null ? ['local'] : ['upstream', 'net'])
    for (const budget_class of BUDGET_CLASSES)
      for (const outcome of OUTCOMES) answers.inc({ ...modelLabels(model), source, budget_class, outcome }, 0);
}

/** Counts an answer that its client has got. */
export function countAnswer({ answers, guarantees }: Series, record: AnswerRecord): void {
  const { source, outcome, budget, isGuaranteed } = record;
  if (outcome === null) return;
  answers.inc({ ...modelLabels(record), source, budget_class: budgetClass(budget), outcome });
  if (isGuaranteed) guarantees.inc({ outcome: isKept(outcome) ? 'kept' : 'missed' });
}
