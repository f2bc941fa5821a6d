/**
 * Every series that the server exports, in one table. A series that vLLM also has keeps vLLM's meaning.
 *
 * Labels are bounded: exits, routes and reasons, never a value that a client chooses.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { NATS, PER_TOKEN_S, RATIO, REQUEST_S, STEP_S, TOKENS, TTFT_S } from './buckets.js';

const PREFIX = 'sortie_';

/** @param modelName label of every series, as vLLM's dashboards expect */
export function createSeries(modelName: string) {
  const registry = new Registry();
  registry.setDefaultLabels({ model_name: modelName });
  collectDefaultMetrics({ register: registry, prefix: PREFIX });
  const base = (name: string, help: string) => ({ name: PREFIX + name, help, registers: [registry] });
  const gauge = (name: string, help: string) => new Gauge(base(name, help));
  const gaugeBy = <T extends string>(name: string, help: string, labelNames: readonly T[]) =>
    new Gauge<T>({ ...base(name, help), labelNames });
  const counter = <T extends string = never>(name: string, help: string, labelNames: readonly T[] = []) =>
    new Counter<T>({ ...base(name, help), labelNames });
  const histogram = <T extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: readonly T[] = [],
  ) => new Histogram<T>({ ...base(name, help), buckets, labelNames });
  return {
    registry,
    running: gauge('num_requests_running', 'Sequences that hold a slot.'),
    waiting: gauge('num_requests_waiting', 'Sequences that wait for a slot.'),
    kvUsage: gauge('kv_cache_usage_perc', 'Share of the KV budget in use by running sequences, 0 to 1.'),
    kvCached: gauge('kv_cache_reusable_perc', 'Share of the KV budget that holds reusable prefixes, 0 to 1.'),
    cacheConfig: new Gauge({
      ...base('cache_config_info', 'KV capacity in whole blocks: tokens = block_size x num_gpu_blocks.'),
      labelNames: ['block_size', 'num_gpu_blocks'],
    }),
    engineUp: gauge('engine_up', '1 while an engine process is ready.'),
    engineDown: counter('engine_down_total', 'Unexpected exits of the engine process.'),
    engineLoad: gauge('engine_load_seconds', 'Load and calibration time of the engine.'),
    promptTokens: counter('prompt_tokens_total', 'Prompt tokens of finished sequences.'),
    generationTokens: counter('generation_tokens_total', 'Tokens generated.'),
    success: counter('request_success_total', 'Sequences that finished with an answer.', ['finished_reason']),
    failed: counter('request_failure_total', 'Sequences that failed or were rejected.', ['reason']),
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
    inferenceTime: histogram('request_inference_time_seconds', 'Start to last token.', REQUEST_S),
    requestPromptTokens: histogram('request_prompt_tokens', 'Prompt tokens of a sequence.', TOKENS),
    requestGenerationTokens: histogram('request_generation_tokens', 'Tokens generated for a sequence.', TOKENS),
    requestMaxTokens: histogram('request_params_max_tokens', 'max_tokens of a sequence.', TOKENS),
    exitTokens: counter('exit_tokens_total', 'Tokens by the exit layer that emitted them.', ['exit_layer']),
    plannedExitTokens: counter(
      'planned_exit_tokens_total',
      'Tokens by the exit layer planned at admission and the one that emitted them.',
      ['planned_exit_layer', 'exit_layer'],
    ),
    exitTime: counter('engine_exit_seconds_total', 'Time of engine steps, attributed to exit layers.', ['exit_layer']),
    exitItl: histogram(
      'exit_inter_token_latency_seconds',
      'Time between two tokens of a sequence by the exit layer that emitted the second.',
      PER_TOKEN_S,
      ['exit_layer'],
    ),
    planned: counter('planned_total', 'Sequences by the exit layer and the service class planned at admission.', [
      'exit_layer',
      'service_class',
    ]),
    replans: counter('exit_changes_total', 'Changes of exit after admission, token by token.', ['direction']),
    predictedTtft: histogram('request_predicted_ttft_seconds', 'Predicted time to first token.', TTFT_S),
    predictedTpot: histogram('request_predicted_tpot_seconds', 'Predicted time per later token.', PER_TOKEN_S),
    ttftViolation: counter('request_ttft_slo_violation_total', 'Sequences whose first token missed its budget.'),
    tpotViolation: counter('request_tpot_slo_violation_total', 'Sequences whose later tokens missed their budget.'),
    budgets: counter('budget_requests_total', 'Sequences with a budget, by its class and its outcome.', [
      'budget_class',
      'outcome',
    ]),
    guarantees: counter('guarantees_total', 'Finished sequences with a guaranteed budget: kept or missed.', [
      'outcome',
    ]),
    ratio: histogram('actual_over_predicted_ratio', 'Actual over predicted time: ttft, tpot or total.', RATIO, [
      'time',
    ]),
    steps: histogram('engine_step_seconds', 'Duration of an engine step.', STEP_S),
    stepRatio: histogram('engine_step_drift_ratio', 'Actual over predicted duration of a step.', RATIO),
    slowdown: gauge('engine_slowdown_ratio', 'Learned ratio of current step times to those measured at startup.'),
    kernelRuns: counter('engine_kernel_runs_total', 'Runs of stages and exit blocks by the kernel chosen.', [
      'unit',
      'mode',
      'kernel',
    ]),
    stageRows: counter('engine_stage_rows_total', 'Rows decoded by each trunk stage.', ['stage']),
    prefilled: counter('engine_prefill_tokens_total', 'Prompt positions computed.'),
    caughtUp: counter('engine_catch_up_tokens_total', 'Positions that deeper stages computed to catch up.'),
    drafts: counter('spec_decode_num_drafts_total', 'Drafts verified, by their source.', ['source']),
    draftTokens: counter('spec_decode_num_draft_tokens_total', 'Tokens drafted, by their source.', ['source']),
    acceptedTokens: counter(
      'spec_decode_num_accepted_tokens_total',
      'Drafted tokens that the exit layer accepted, by their source.',
      ['source'],
    ),
    auditTokens: counter(
      'audit_tokens_total',
      "Audited tokens by the exit layer that wrote them, and whether each is full depth's most likely one.",
      ['exit_layer', 'agrees'],
    ),
    auditGivenUp: histogram(
      'audit_logprob_given_up_nats',
      "Log-probability of full depth's most likely token over that of the written one, by exit layer.",
      NATS,
      ['exit_layer'],
    ),
    auditAnswers: counter('audit_answers_total', 'Ended answers: audited, or the reason without an audit.', [
      'outcome',
    ]),
    auditTime: counter('audit_seconds_total', 'Time of the steps of audits.'),
    auditLast: gauge('audit_last_timestamp_seconds', 'Unix time of the last audit; 0 before the first.'),
    exitQuality: gaugeBy(
      'exit_quality',
      'Quality of exits: the measured one of the model, and the estimate after audits.',
      ['exit_layer', 'source'],
    ),
    limited: counter('key_limited_total', 'Requests rejected by a limit of their API key.', ['limit']),
    gatewayLag: gauge(
      'gateway_lag_p99_seconds',
      'Lag of the event loop of the gateway, 99th percentile of the last 10 seconds.',
    ),
    http: counter('http_requests_total', 'HTTP requests.', ['method', 'route', 'status']),
  };
}

export type Series = ReturnType<typeof createSeries>;
