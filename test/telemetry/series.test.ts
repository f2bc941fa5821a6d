/** Series that vLLM's dashboards rely on: names, types, and buckets at least as fine. */
import t from 'tap';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { netMetrics } from '../../src/gateway/telemetry/upstream-metrics.js';

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

const TTFT = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
];
const PER_TOKEN = [
  ...[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75],
  ...[1, 2.5, 5, 7.5, 10, 20, 40, 80],
];
const REQUEST = [...[0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]];
const BUCKETS: Readonly<Record<string, readonly number[]>> = {
  time_to_first_token_seconds: TTFT,
  inter_token_latency_seconds: PER_TOKEN,
  request_time_per_output_token_seconds: PER_TOKEN,
  e2e_request_latency_seconds: REQUEST,
  request_queue_time_seconds: REQUEST,
  request_prefill_time_seconds: REQUEST,
  request_decode_time_seconds: REQUEST,
};

void t.test('names and types', async (t) => {
  for (const [type, names] of Object.entries(TYPES)) {
    for (const name of names) t.equal((await registry.getSingleMetric(`sortie_${name}`)?.get())?.type, type, name);
  }
});

void t.test("the buckets contain vLLM's", async (t) => {
  const text = await registry.metrics();
  for (const [name, buckets] of Object.entries(BUCKETS)) {
    const found = text.matchAll(new RegExp(`^sortie_${name}_bucket\\{le="([^"]+)"`, 'gm'));
    const own = new Set([...found].map(([, le]) => Number(le)));
    for (const bucket of buckets) t.ok(own.has(bucket), `${name} ${bucket}`);
  }
});

void t.test('no name has a colon, and every name has the prefix', async (t) => {
  for (const { name } of await registry.getMetricsAsJSON()) t.match(name, /^sortie_[a-z0-9_]+$/);
});

void t.test('a server has 50 series beside those of its process', async (t) => {
  const names = (await registry.getMetricsAsJSON()).map(({ name }) => name);
  t.equal(names.filter((name) => !/^sortie_(process|nodejs)_/.test(name)).length, 50);
});

void t.test('nets are counted, and those that ran have a time', async (t) => {
  const series = createSeries('m');
  const metrics = netMetrics(series);
  metrics.ended({ upstream: 'big', ranMs: null, trigger: null, result: 'unused' });
  metrics.ended({ upstream: 'big', result: 'answered', trigger: 'latest_start', ranMs: 1500 });
  metrics.ended({ upstream: 'big', result: 'answered', trigger: 'status', ranMs: 500 });
  const text = await series.registry.metrics();
  for (const line of [
    'sortie_nets_total{upstream="big",result="unused",trigger="none",model_name="m"} 1',
    'sortie_nets_total{upstream="big",result="answered",trigger="latest_start",model_name="m"} 1',
    'sortie_net_seconds_total{upstream="big",result="answered",model_name="m"} 2',
  ])
    t.ok(text.includes(line), line);
  t.notMatch(text, /net_seconds_total\{[^}]*unused/);
});
