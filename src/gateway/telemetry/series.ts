/**
 * Every series that the server exports. A series that vLLM also has keeps vLLM's name and meaning.
 *
 * Labels are bounded: exits, routes and reasons, never a value that a client chooses. A label lists its values, each of
 * which starts at 0. An empty list has values that the process learns: exits, upstreams, routes.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { DepthReason, DraftSource, RejectedEvent, ServiceClass, StepPart } from '../../protocol/index.js';
import { OUTCOMES } from '../../protocol/outcome.js';

/** Begins the name of every series. */
const PREFIX = 'sortie_';

/** The values of each label; none where events name them. */
type Labels<T extends string> = Readonly<Record<T, readonly string[]>>;

const combinations = (labels: Labels<string>): Record<string, string>[] =>
  Object.entries(labels).reduce<Record<string, string>[]>(
    (all, [name, values]) => all.flatMap((each) => values.map((value) => ({ ...each, [name]: value }))),
    [{}],
  );

/** Lets all combinations of label values start at 0, so that a query finds data before the first event. */
export function startAtZero<T extends string, M extends Counter<T> | Gauge<T> | Histogram<T>>(
  metric: M & (Counter<T> | Gauge<T> | Histogram<T>),
  labels: Labels<NoInfer<T>>,
): M {
  for (const each of combinations(labels) as Record<T, string>[]) {
    if (metric instanceof Counter) metric.inc(each, 0);
    else if (metric instanceof Gauge) metric.set(each, 0);
    else metric.zero(each);
  }
  return metric;
}

/** Makes a metric in a registry. */
type Maker<M> = (registry: Registry) => M;

const configOf = <T extends string>(registry: Registry, name: string, help: string, labels: Labels<T>) => {
  const labelNames = Object.keys(labels) as T[];
  return { name: PREFIX + name, help, labelNames, registers: [registry] };
};

const gauge =
  <T extends string = never>(name: string, help: string, labels = {} as Labels<T>): Maker<Gauge<T>> =>
  (registry) =>
    // Of several processes: the one that is worst off.
    startAtZero(new Gauge({ ...configOf(registry, name, help, labels), aggregator: 'max' }), labels);

const counter =
  <T extends string = never>(name: string, help: string, labels = {} as Labels<T>): Maker<Counter<T>> =>
  (registry) =>
    startAtZero(new Counter(configOf(registry, name, help, labels)), labels);

const histogram =
  <T extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labels = {} as Labels<T>,
  ): Maker<Histogram<T>> =>
  (registry) =>
    startAtZero(new Histogram({ ...configOf(registry, name, help, labels), buckets }), labels);

/** The metrics of a table, made in its order. */
function madeFrom<T extends Record<string, Maker<unknown>>>(registry: Registry, table: T) {
  const made = Object.entries(table).map(([key, make]) => [key, make(registry)]);
  return Object.fromEntries(made) as { readonly [K in keyof T]: ReturnType<T[K]> };
}

/** Buckets in seconds or tokens. They are vLLM's, with finer ones below: small models respond in milliseconds. */
const TTFT_S = [
  ...[0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80],
  ...[160, 640, 2560],
];
const PER_TOKEN_S = [
  ...[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20],
  ...[40, 80],
];
const REQUEST_S = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240],
  ...[480, 960, 1920, 7680],
];
/** Seconds past a deadline: 0 is in time. */
const LATE_S = [0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const STEP_S = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const STEP_PART_S = [0.0001, 0.00025, ...STEP_S];
const TOKENS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];
/** Actual over predicted time: 1 is exact. */
const RATIO = [0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4];

/** Finish reasons in vLLM's words. */
export const FINISHED_REASON = { stop: 'stop', length: 'length', deadline: 'deadline', cancelled: 'abort' } as const;

const FAILURES = [
  ...(['queue_full', 'budget_infeasible', 'too_long', 'unknown_token'] satisfies RejectedEvent['reason'][]),
  ...(['grammar', 'grammars_lost'] satisfies RejectedEvent['reason'][]),
  ...['error', 'engine_lost', 'internal'],
];
const PARTS: StepPart[] = ['planning', 'memory', 'prefill', 'decode', 'head', 'sampling', 'messages'];
export const SERVICE_CLASSES: ServiceClass[] = ['guaranteed', 'best_effort', 'none'];
const DEPTH_REASONS: DepthReason[] = ['deepest', 'budget', 'load'];
const DRAFT_SOURCES: DraftSource[] = ['prediction', 'lookup', 'exit'];

/** Of total budgets, of budgets that bound only TTFT or TPOT, and of answers without one. The set is closed. */
export const BUDGET_CLASSES = [
  ...(['up_to_250ms', 'up_to_1s', 'up_to_4s', 'up_to_16s', 'over_16s', 'per_token', 'none'] as const),
];
export type BudgetClass = (typeof BUDGET_CLASSES)[number];

/** Values that the process learns. */
const LEARNT: readonly string[] = [];
const BY_EXIT = { exit_layer: LEARNT };
/** Upstreams are names of the configuration, as are the models that they serve. */
const BY_UPSTREAM = { model_name: LEARNT, upstream: LEARNT };
const BY_SOURCE = { source: DRAFT_SOURCES };

/** The series that vLLM has as well. */
const SHARED = {
  running: gauge('num_requests_running', 'Sequences that hold a slot.'),
  waiting: gauge('num_requests_waiting', 'Sequences that wait for a slot or for their grammar.'),
  kvUsage: gauge('kv_cache_usage_perc', 'Share of the KV budget in use by running sequences, 0 to 1.'),
  cacheConfig: gauge('cache_config_info', 'KV capacity in whole blocks: tokens = block_size x num_gpu_blocks.', {
    block_size: LEARNT,
    num_gpu_blocks: LEARNT,
  }),
  promptTokens: counter('prompt_tokens_total', 'Prompt tokens of finished sequences.'),
  generationTokens: counter('generation_tokens_total', 'Tokens generated.'),
  success: counter('request_success_total', 'Sequences that finished with an answer.', {
    finished_reason: Object.values(FINISHED_REASON),
  }),
  prefixQueries: counter('prefix_cache_queries_total', 'Prompt tokens looked up for prefix reuse.'),
  prefixHits: counter('prefix_cache_hits_total', 'Prompt tokens reused from the prefix cache.'),
  preemptions: counter('num_preemptions_total', 'Preemptions: a running sequence loses its slot and runs again.'),
  ttft: histogram('time_to_first_token_seconds', 'Arrival to first token.', TTFT_S),
  itl: histogram('inter_token_latency_seconds', 'Time between two tokens of a sequence.', PER_TOKEN_S),
  tpot: histogram('request_time_per_output_token_seconds', 'Mean time per token after the first.', PER_TOKEN_S),
  e2e: histogram('e2e_request_latency_seconds', 'Arrival to the last token.', REQUEST_S),
  queueTime: histogram('request_queue_time_seconds', 'Arrival to start.', REQUEST_S),
  prefillTime: histogram('request_prefill_time_seconds', 'Start to first token.', REQUEST_S),
  decodeTime: histogram('request_decode_time_seconds', 'First to last token.', REQUEST_S),
  requestPromptTokens: histogram('request_prompt_tokens', 'Prompt tokens of a sequence.', TOKENS),
  requestGenerationTokens: histogram('request_generation_tokens', 'Tokens generated for a sequence.', TOKENS),
  draftTokens: counter('spec_decode_num_draft_tokens_total', 'Tokens drafted, by their source.', BY_SOURCE),
  acceptedTokens: counter('spec_decode_num_accepted_tokens_total', 'Drafted tokens that the exit accepted.', BY_SOURCE),
};

/** The series that vLLM has no name for. */
const OWN = {
  httpRequests: counter('http_requests_total', 'HTTP requests.', { method: LEARNT, route: LEARNT, status: LEARNT }),
  limited: counter('key_limited_total', 'Requests rejected by a limit of their API key.', {
    limit: ['requests', 'tokens', 'in_flight'],
  }),
  failed: counter('request_failure_total', 'Sequences that failed or were rejected.', { reason: FAILURES }),
  answers: counter('answers_total', 'Answers by source (local, upstream, net), class of budget and outcome.', {
    ...BY_UPSTREAM,
    source: LEARNT,
    budget_class: BUDGET_CLASSES,
    outcome: OUTCOMES,
  }),
  guarantees: counter('guarantees_total', 'Answers with a guaranteed budget: kept or missed.', {
    outcome: ['kept', 'missed'],
  }),
  planned: counter('planned_total', 'Sequences by the exit layer and the service class planned at admission.', {
    ...BY_EXIT,
    service_class: SERVICE_CLASSES,
  }),
  depthReasons: counter('depth_reasons_total', 'Sequences by the reason of the exit planned at admission.', {
    reason: DEPTH_REASONS,
  }),
  exitTokens: counter('exit_tokens_total', 'Tokens by the exit layer that emitted them.', BY_EXIT),
  exitLayers: counter(
    'exit_layers_total',
    'Exit layers of all tokens, added up: over exit_tokens_total the mean depth.',
  ),
  exitTime: counter('engine_exit_seconds_total', 'Time of engine steps, attributed to exit layers.', BY_EXIT),
  exitItl: histogram(
    'exit_inter_token_latency_seconds',
    'Time between two tokens of a sequence by the exit layer that emitted the second.',
    PER_TOKEN_S,
    BY_EXIT,
  ),
  ratio: histogram('actual_over_predicted_ratio', 'Actual over predicted time: ttft, tpot or total.', RATIO, {
    time: ['ttft', 'tpot', 'total'],
  }),
  kvCached: gauge('kv_cache_reusable_perc', 'Share of the KV budget that holds reusable prefixes, 0 to 1.'),
  engineUp: gauge('engine_up', '1 while an engine process is ready.'),
  engineDown: counter('engine_down_total', 'Unexpected exits of the engine process.'),
  steps: histogram('engine_step_seconds', 'Duration of an engine step.', STEP_S),
  stepParts: histogram('engine_step_part_seconds', 'Time of a step with the gap before it, by part.', STEP_PART_S, {
    part: PARTS,
  }),
  stepRatio: histogram('engine_step_drift_ratio', 'Actual over predicted duration of a step.', RATIO),
  slowdown: gauge('engine_slowdown_ratio', 'Learned ratio of current step times to those measured at startup.'),
  prefilled: counter('engine_prefill_tokens_total', 'Prompt positions computed.'),
  caughtUp: counter('engine_catch_up_tokens_total', 'Positions that deeper stages computed to catch up.'),
};

/** The series of models that run elsewhere. */
const UPSTREAM = {
  upstreamTries: counter('upstream_tries_total', 'Requests to an upstream model, by its status and by their end.', {
    ...BY_UPSTREAM,
    status: LEARNT,
    end: LEARNT,
  }),
  upstreamTtft: histogram('upstream_ttft_seconds', 'Request to the first content of an upstream.', TTFT_S, BY_UPSTREAM),
  upstreamLate: histogram(
    'upstream_last_byte_after_deadline_seconds',
    'Last byte of an answer under a budget past its deadline; 0 in time.',
    LATE_S,
    BY_UPSTREAM,
  ),
  breaker: gauge(
    'upstream_breaker_open',
    '1 while an upstream failed so often that few requests of a key, or of all, try it.',
    BY_UPSTREAM,
  ),
  nets: counter('nets_total', 'Answers of an upstream with a net or without one, by its result and its trigger.', {
    ...BY_UPSTREAM,
    result: LEARNT,
    trigger: LEARNT,
  }),
  netSeconds: counter('net_seconds_total', 'Time that nets ran, by their result: overtaken ones ran for nothing.', {
    ...BY_UPSTREAM,
    result: LEARNT,
  }),
};

/** @param modelName label of every series, as vLLM's dashboards expect */
export function createSeries(modelName: string) {
  const registry = new Registry();
  registry.setDefaultLabels({ model_name: modelName });
  const series = { registry, ...madeFrom(registry, { ...SHARED, ...OWN, ...UPSTREAM }) };
  // The series of the process come last: an operator reads the server's own first.
  collectDefaultMetrics({ register: registry, prefix: PREFIX });
  return series;
}

export type Series = ReturnType<typeof createSeries>;
