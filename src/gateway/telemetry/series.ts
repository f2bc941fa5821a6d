/**
 * Every series that the server exports. A series that vLLM also has keeps vLLM's name and meaning.
 *
 * Labels are bounded: exits, routes and reasons, never a value that a client chooses.
 */
import { collectDefaultMetrics, Registry } from 'prom-client';
import { LENGTH_RATIO, PER_TOKEN_S, RATIO, REQUEST_S, STEP_PART_S, STEP_S, TTFT_S } from './buckets.js';
import { counter, gauge, histogram, madeFrom, PREFIX } from './series-makers.js';
import { UPSTREAM } from './upstream-series.js';
import { SHARED } from './vllm-series.js';

/** The series that vLLM has no name for. */
const OWN = {
  httpRequests: counter('http_requests_total', 'HTTP requests.', ['method', 'route', 'status']),
  httpTime: histogram('http_request_duration_seconds', 'Arrival to the last byte.', REQUEST_S, ['method', 'route']),
  kvCached: gauge('kv_cache_reusable_perc', 'Share of the KV budget that holds reusable prefixes, 0 to 1.'),
  engineUp: gauge('engine_up', '1 while an engine process is ready.'),
  engineDown: counter('engine_down_total', 'Unexpected exits of the engine process.'),
  engineLoad: gauge('engine_load_seconds', 'Load and calibration time of the engine.'),
  device: gauge('engine_device_info', '1 for each device of the engine.', ['device', 'card', 'name', 'driver']),
  deviceMemory: gauge('engine_device_memory_bytes', 'Memory of each GPU.', ['card']),
  deviceFree: gauge('engine_device_free_bytes', 'Memory of each GPU that was free once the model was loaded.', [
    'card',
  ]),
  failed: counter('request_failure_total', 'Sequences that failed or were rejected.', ['reason']),
  exitTokens: counter('exit_tokens_total', 'Tokens by the exit layer that emitted them.', ['exit_layer']),
  exitLayers: counter(
    'exit_layers_total',
    'Exit layers of all tokens, added up: over exit_tokens_total the mean depth.',
  ),
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
  landedShare: histogram(
    'landed_length_ratio',
    'Tokens of a landed answer over its expected tokens at admission.',
    LENGTH_RATIO,
  ),
  depthReasons: counter('depth_reasons_total', 'Sequences by the reason of the exit planned at admission.', ['reason']),
  guarantees: counter('guarantees_total', 'Finished sequences with a guaranteed budget: kept or missed.', ['outcome']),
  ratio: histogram('actual_over_predicted_ratio', 'Actual over predicted time: ttft, tpot or total.', RATIO, ['time']),
  steps: histogram('engine_step_seconds', 'Duration of an engine step.', STEP_S),
  stepParts: histogram('engine_step_part_seconds', 'Time of a step with the gap before it, by part.', STEP_PART_S, [
    'part',
  ]),
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
  limited: counter('key_limited_total', 'Requests rejected by a limit of their API key.', ['limit']),
  gatewayLag: gauge(
    'gateway_lag_p99_seconds',
    'Lag of the event loop of the gateway, 99th percentile of the last 10 seconds.',
  ),
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
