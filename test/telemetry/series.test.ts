/** Series that vLLM's dashboards rely on, and readable lines of the log. */
import t from 'tap';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { netMetrics } from '../../src/gateway/telemetry/upstream-metrics.js';
import { createLog, prettyLines } from '../../src/gateway/telemetry/log.js';

const { registry } = createSeries('m');

const TYPES = {
  gauge: ['num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc', 'cache_config_info'],
  counter: [
    ...['prompt_tokens_total', 'generation_tokens_total', 'request_success_total'],
    ...['prefix_cache_queries_total', 'prefix_cache_hits_total', 'num_preemptions_total'],
    ...['spec_decode_num_draft_tokens_total', 'spec_decode_num_accepted_tokens_total'],
  ],
  histogram: ['request_prompt_tokens', 'request_generation_tokens'],
} as const;

void t.test('names and types', async (t) => {
  for (const [type, names] of Object.entries(TYPES)) {
    for (const name of names) t.equal((await registry.getSingleMetric(`sortie_${name}`)?.get())?.type, type, name);
  }
});

void t.test('every name has the prefix and no colon', async (t) => {
  for (const { name } of await registry.getMetricsAsJSON()) t.match(name, /^sortie_[a-z0-9_]+$/);
});

void t.test('nets are counted, and those that ran have a time', async (t) => {
  const series = createSeries('m');
  const count = netMetrics(series);
  const model = { model: 'assistant', upstream: 'big' };
  count({ ...model, ranMs: null, trigger: null, result: 'unused' });
  count({ ...model, result: 'answered', trigger: 'latest_start', ranMs: 1500 });
  count({ ...model, result: 'answered', trigger: 'status', ranMs: 500 });
  const text = await series.registry.metrics();
  for (const line of [
    'sortie_nets_total{model_name="assistant",upstream="big",result="unused",trigger="none"} 1',
    'sortie_nets_total{model_name="assistant",upstream="big",result="answered",trigger="latest_start"} 1',
    'sortie_net_seconds_total{model_name="assistant",upstream="big",result="answered"} 2',
  ])
    t.ok(text.includes(line), line);
  t.notMatch(text, /net_seconds_total\{[^}]*unused/);
});

// Readable lines of the log. The processes in test/deploy and test/chaos have the JSON log.

void t.test('a request is one short line with its exits and its budget', async (t) => {
  const pretty = await prettyLines(false);
  const request = {
    ...{ level: 30, time: 0, pid: 1, reqId: 'r', method: 'POST', route: '/v1/completions', status: 200, ms: 312.345 },
    ...{ model: 'm', prompt_tokens: 3, completion_tokens: 4, msg: 'request' },
  };
  const plan = { exit_layer: 30, service_class: 'guaranteed', reason: 'deepest' };
  const times = { ttft_ms: 24.56, queue_ms: 0.123 };
  const sortie = {
    source: 'local',
    plan,
    exit_layers: { 30: 4 },
    budget_ms: 500,
    outcome: 'whole',
    met: true,
    ...times,
  };
  const line = pretty(JSON.stringify({ ...request, sortie }));
  t.match(line, /^\[\d\d:\d\d:\d\d\] INFO: POST \/v1\/completions 200 in 312 ms \{.*\}\n$/);
  t.same(JSON.parse(line.slice(line.indexOf('{'))), {
    ...{ prompt_tokens: 3, completion_tokens: 4, id: 'r', plan: 'exit 30, guaranteed', exit_layers: { 30: 4 } },
    ...{ ttft_ms: 25, queue_ms: 0, budget_ms: 500, outcome: 'whole' },
  });
  const shallow = { ...sortie, plan: { exit_layer: 15, reason: 'load' }, source: 'net', landed: { at_token: 7 } };
  t.match(
    pretty(JSON.stringify({ ...request, sortie: shallow })),
    /"source":"net","plan":"exit 15, load".*"landed_at":7/,
  );
  t.notMatch(pretty(JSON.stringify({ ...request, sortie })), /deepest|landed/);
  const open = pretty(JSON.stringify({ ...request, sortie: { ...sortie, budget_ms: undefined, met: undefined } }));
  t.notMatch(open, /budget|outcome/, 'without a budget');
  const rejected = pretty(JSON.stringify({ ...request, status: 400, code: 'invalid_value' }));
  t.match(rejected, /400 in 312 ms .*"code":"invalid_value"/);
});

void t.test('the log is readable on a terminal, and JSON elsewhere', async (t) => {
  for (const isTerminal of [true, false]) t.equal((await createLog('silent', isTerminal)).isPretty, isTerminal);
});
