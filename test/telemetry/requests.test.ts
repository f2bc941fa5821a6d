import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type {
  Budget,
  EndedEvent,
  EndReason,
  PlannedEvent,
  RejectedEvent,
  StepMessage,
} from '../../src/protocol/index.js';
import { budgetClass, countAnswer } from '../../src/gateway/telemetry/answer-record.js';
import { RequestMetrics } from '../../src/gateway/telemetry/requests.js';
import { OUTCOMES } from '../../src/protocol/outcome.js';
import { monotonicMs } from '../../src/util/clock.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { plannedEvent, READY } from '../fakes/engine.js';
import { movedClock } from '../support/moved-clock.js';

function budget(totalMs: number | null): Budget {
  return { totalMs, ttftMs: totalMs === null ? 5 : null, tpotMs: null, onMiss: 'continue' };
}

/** Facts of a request, without its budget. */
const FACTS = { arrivedAt: 0, promptTokens: 3 };

const PARTS = { planning: 1, memory: 0, prefill: 0, decode: 4, head: 1, sampling: 1, messages: 1 };

function planned(id: string, exit: number, overrides: Partial<PlannedEvent> = {}): PlannedEvent {
  return plannedEvent(id, exit, { predictedTtftMs: 10, predictedTpotMs: 10, predictedMs: 40, ...overrides });
}

function ended(id: string, reason: EndReason, endedAt: number): EndedEvent {
  const times = { startedAt: 1, firstTokenAt: 20, endedAt };
  return { id, reason, error: null, promptTokens: 3, cachedTokens: 0, preemptions: 0, ...times };
}

function step(at: number, events: Partial<StepMessage>): StepMessage {
  const load = { running: 1, waiting: 0, kvUsed: 0, kvCached: 0, waitMs: 0 };
  const none = { planned: [], rejected: [], prompts: [], tokens: [], ended: [], work: null };
  return { type: 'step', at, load, ...none, ...events };
}

const token = (id: string, exit = 30) => ({ id, token: 1, exit, logprobs: null });

function fixture() {
  const series = createSeries('m');
  const metrics = new RequestMetrics(series);
  metrics.ready(READY);
  const begin = (id: string, totalMs: number | null): void => {
    metrics.begin(id, { ...FACTS, budget: budget(totalMs) });
  };
  /** @param query a name with some of its labels, such as `x_total{a="b",c="d"` */
  const value = async (query: string): Promise<number> => {
    const [name = '', labels] = query.split('{');
    const wanted = labels?.split(',') ?? [];
    const own = (await series.registry.metrics()).split('\n').filter((line) => line.startsWith(`sortie_${name}{`));
    const line = own.find((line) => wanted.every((label) => new RegExp(`[{,]${label}`).test(line)));
    return line === undefined ? NaN : Number(line.split(' ').at(-1));
  };
  /** The values of a series that are not 0, by one of its labels. */
  const counts = async (name: string, label: string): Promise<Record<string, number>> => {
    const rows = (await series.registry.metrics()).split('\n').filter((line) => line.startsWith(`sortie_${name}{`));
    const values = rows.map((row) => [
      new RegExp(`[{,]${label}="(\\w+)"`).exec(row)?.[1],
      Number(row.split(' ').at(-1)),
    ]);
    return Object.fromEntries(values.filter(([, value]) => value !== 0)) as Record<string, number>;
  };
  return { series, metrics, begin, value, counts };
}

void t.test('a series is 0 and not absent before its first event', async (t) => {
  const { value } = fixture();
  for (const name of [
    'key_limited_total{limit="in_flight"',
    'request_failure_total{reason="queue_full"',
    'request_success_total{finished_reason="abort"',
    'answers_total{source="local",budget_class="per_token",outcome="refused"',
    'planned_total{exit_layer="15",service_class="best_effort"',
    'guarantees_total{outcome="missed"',
    'exit_inter_token_latency_seconds_count{exit_layer="10"',
  ]) {
    t.equal(await value(name), 0, name);
  }
});

void t.test("KV capacity is reported in whole blocks, of the smallest size that llm-d's picker assumes", async (t) => {
  const { metrics, value } = fixture();
  t.equal(await value('cache_config_info{block_size="64",num_gpu_blocks="64"'), 1);
  metrics.ready({ ...READY, kvTokens: 1000 });
  t.equal(await value('cache_config_info{block_size="64",num_gpu_blocks="15"'), 1);
  t.ok(Number.isNaN(await value('cache_config_info{num_gpu_blocks="64"')), 'the value of the earlier engine is gone');
});

void t.test('a budget has a class by its total', (t) => {
  const classes = [1, 250, 251, 1000, 4000, 16_000, 16_001].map((ms) => budgetClass(budget(ms)));
  t.same(classes, ['up_to_250ms', 'up_to_250ms', 'up_to_1s', 'up_to_1s', 'up_to_4s', 'up_to_16s', 'over_16s']);
  t.equal(budgetClass(budget(null)), 'per_token');
  t.equal(budgetClass(null), 'none');
  t.end();
});

void t.test('a guarantee is kept by an answer that is whole or landed, and counts once', async (t) => {
  const { series, counts } = fixture();
  const told = {
    source: 'local',
    model: 'm',
    upstream: null,
    finishReason: 'stop',
    landed: null,
    details: {},
  } as const;
  const times = { budget: budget(100), actualMs: 90, ttftMs: 1, usage: { prompt_tokens: 1, completion_tokens: 1 } };
  for (const outcome of OUTCOMES)
    for (const isGuaranteed of [true, false]) countAnswer(series, { ...told, ...times, outcome, isGuaranteed });
  countAnswer(series, { ...told, ...times, outcome: null, isGuaranteed: true });
  t.same(await counts('guarantees_total', 'outcome'), { kept: 2, missed: 4 });
  t.same(
    Object.values(await counts('answers_total', 'outcome')),
    OUTCOMES.map(() => 2),
  );
});

void t.test('plans count by exit and service class', async (t) => {
  const { metrics, begin, value } = fixture();
  for (const id of ['a', 'c', 'd']) begin(id, 200);
  metrics.begin('free', { ...FACTS, budget: null });
  const [c, d] = [
    planned('c', 10, { serviceClass: 'best_effort' }),
    planned('d', 15, { serviceClass: 'best_effort', reason: 'load' }),
  ];
  const free = planned('free', 10, { serviceClass: 'none' });
  metrics.step(step(100, { planned: [planned('a', 10), c, d, free] }));
  const classes = ['guaranteed', 'best_effort', 'none'];
  const counted = (exit: number) =>
    Promise.all(classes.map((each) => value(`planned_total{exit_layer="${exit}",service_class="${each}"`)));
  t.same(await counted(10), [1, 1, 1]);
  t.same(await counted(15), [0, 1, 0]);
  t.same(await counted(20), [0, 0, 0], 'an exit without plans is 0');
  t.equal(await value('depth_reasons_total{reason="load"'), 1);
  t.equal(await value('depth_reasons_total{reason="deepest"'), 3);
});

/** The course of a sequence, besides its end. */
interface Course {
  /** Times of its tokens. */
  readonly at?: readonly number[];
  /** The gateway cuts the answer at its deadline, or fails to write it. */
  readonly gateway?: 'cut' | 'broken';
}

const end = (reason: EndReason, endedAt: number, more: Partial<EndedEvent> = {}): EndedEvent => ({
  ...ended('a', reason, endedAt),
  ...more,
});
const landed = { at: 7, pressure: 2, probability: 0.1 };

/** Its name, the engine's last word (null: it exits without one), and the reason that counts. */
const COURSES: readonly [string, EndedEvent | RejectedEvent['reason'] | null, string, Course?][] = [
  ['whole', end('stop', 199), 'stop'],
  ['at its length', end('length', 201), 'length'],
  ['cut', end('deadline', 201), 'deadline', { at: [20] }],
  ['failed', end('error', 10), 'error'],
  ['cancelled', end('cancelled', 230), 'abort'],
  ['lost', null, 'engine_lost'],
  ['no room', 'queue_full', 'queue_full'],
  ['no time', 'budget_infeasible', 'budget_infeasible'],
  ['no grammars', 'grammars_lost', 'grammars_lost'],
  ["a client's mistake", 'too_long', 'too_long'],
  ['cut by the gateway, then whole', end('length', 300), 'deadline', { at: [20], gateway: 'cut' }],
  ['cut, then failed', end('error', 300), 'deadline', { gateway: 'cut' }],
  ['cut, then landed', end('stop', 150, { landed }), 'deadline', { gateway: 'cut' }],
  ['cut, then rejected', 'queue_full', 'deadline', { gateway: 'cut' }],
  ['cut, then lost', null, 'deadline', { at: [20], gateway: 'cut' }],
  ['broken', end('cancelled', 10), 'internal', { gateway: 'broken' }],
];

for (const [name, last, counted, { at = [], gateway } = {}] of COURSES)
  void t.test(`every end counts once: ${name}`, async (t) => {
    const { metrics, begin, value, counts } = fixture();
    begin('a', 200);
    metrics.step(step(10, { planned: [planned('a', 10)] }));
    for (const ms of at) metrics.step(step(ms, { tokens: [token('a')] }));
    if (gateway === 'cut') metrics.cut(end('deadline', 200, { startedAt: null, firstTokenAt: at[0] ?? null }));
    else if (gateway === 'broken') for (let i = 0; i < 2; i++) metrics.broken('a');
    if (last === null) metrics.down();
    else if (typeof last === 'string')
      metrics.step(step(300, { rejected: [{ id: 'a', reason: last, leastFeasibleMs: null }] }));
    else metrics.step(step(300, { ended: [last] }));
    const answers = await counts('request_success_total', 'finished_reason');
    t.same({ ...answers, ...(await counts('request_failure_total', 'reason')) }, { [counted]: 1 });
    t.equal(metrics.live, 0);
    t.equal(await value('prompt_tokens_total'), last === null || typeof last === 'string' ? 0 : 3, 'work counts');
  });

void t.test('exits: their time, and predictions against actual times', async (t) => {
  const { metrics, begin, value } = fixture();
  begin('a', 1000);
  metrics.step(step(10, { planned: [planned('a', 30)] }));
  const work = {
    ...{ ms: 5, cycleMs: 8, partMs: PARTS, predictedMs: 4, prefillTokens: 0, catchUpTokens: 0 },
    ...{ exitMs: [0, 2, 0, 0, 3], slowdown: 1.5 },
    draft: { source: 'lookup', drafted: 4, accepted: 3 } as const,
  };
  for (const [at, exit] of [
    [20, 15],
    [30, 30],
    [40, 30],
  ] as const)
    metrics.step(step(at, { tokens: [token('a', exit)], work }));
  metrics.step(step(40, { ended: [ended('a', 'stop', 40)] }));
  t.equal(await value('engine_exit_seconds_total{exit_layer="15"'), 0.006);
  t.equal(await value('exit_inter_token_latency_seconds_count{exit_layer="30"'), 2);
  t.equal(await value('engine_slowdown_ratio'), 1.5);
  t.equal(await value('engine_step_drift_ratio_sum'), 6, 'the prediction is for the cycle');
  t.equal(await value('spec_decode_num_draft_tokens_total{source="lookup"'), 12);
  t.equal(await value('spec_decode_num_accepted_tokens_total{source="lookup"'), 9);
  t.equal(await value('actual_over_predicted_ratio_sum{time="ttft"'), 2);
  t.equal(await value('actual_over_predicted_ratio_sum{time="tpot"'), 1);
  t.equal(await value('actual_over_predicted_ratio_sum{time="total"'), 1);
});

void t.test('times are never negative, and each exit of the engine is counted', async (t) => {
  const { metrics, begin, value } = fixture();
  metrics.begin('early', { ...FACTS, arrivedAt: 50, budget: null });
  begin('a', null);
  // The engine's clock was behind the arrival when the answer ended.
  metrics.step(step(40, { ended: [ended('early', 'stop', 40)] }));
  t.equal(await value('e2e_request_latency_seconds_sum'), 0);
  t.equal(await value('time_to_first_token_seconds_sum'), 0);
  const work = { ms: 5, cycleMs: 8, partMs: PARTS, predictedMs: 0, prefillTokens: 0, catchUpTokens: 0 };
  metrics.step(step(50, { work: { ...work, exitMs: [], slowdown: 1 } }));
  t.equal(await value('engine_step_drift_ratio_count'), 0, 'the step has no prediction');
  t.equal(metrics.live, 1);
  metrics.down();
  t.equal(metrics.live, 0, 'lost sequences are not live');
  metrics.down();
  t.equal(await value('engine_down_total'), 2);
  t.equal(await value('request_failure_total{reason="engine_lost"'), 1, 'it counts as lost once');
});

void t.test('every figure of an answer and of the engine', async (t) => {
  const { metrics, begin, value } = fixture();
  begin('a', 1000);
  const load = { running: 2, waiting: 3, kvUsed: 0.5, kvCached: 0.25, waitMs: 0 };
  const work = {
    ...{ ms: 5, cycleMs: 8, partMs: PARTS, predictedMs: 4, prefillTokens: 7, catchUpTokens: 6 },
    ...{ exitMs: [0.5], slowdown: 1 },
    draft: { source: 'lookup' as const, drafted: 4, accepted: 2 },
  };
  metrics.step(step(10, { planned: [planned('a', 30)], work, load }));
  for (const at of [2000, 3000]) metrics.step(step(at, { tokens: [token('a')], load }));
  metrics.step(step(4000, { tokens: [token('a')], work: { ...work, prefillTokens: 0 }, load }));
  const times = { startedAt: 500, firstTokenAt: 2000, endedAt: 5000 };
  const end = { ...ended('a', 'length', 5000), ...times, cachedTokens: 2, preemptions: 4 };
  metrics.step(step(5000, { ended: [end], load }));
  const told: Record<string, number> = {
    ...{ engine_up: 1, num_requests_running: 2, num_requests_waiting: 3 },
    ...{ kv_cache_usage_perc: 0.5, kv_cache_reusable_perc: 0.25 },
    ...{ 'engine_step_part_seconds_sum{part="decode"': 0.008, 'engine_step_part_seconds_count{part="prefill"': 2 },
    ...{ engine_step_seconds_sum: 0.01, engine_prefill_tokens_total: 7, engine_catch_up_tokens_total: 12 },
    ...{ prompt_tokens_total: 3, prefix_cache_queries_total: 3, prefix_cache_hits_total: 2, num_preemptions_total: 4 },
    ...{ generation_tokens_total: 3, 'request_success_total{finished_reason="length"': 1 },
    ...{ request_prompt_tokens_sum: 3, request_generation_tokens_sum: 3 },
    ...{ e2e_request_latency_seconds_sum: 5, request_queue_time_seconds_sum: 0.5 },
    ...{ request_prefill_time_seconds_sum: 1.5 },
    ...{ time_to_first_token_seconds_sum: 2, request_decode_time_seconds_sum: 2 },
    ...{ request_time_per_output_token_seconds_sum: 1, inter_token_latency_seconds_sum: 2 },
    ...{ 'engine_exit_seconds_total{exit_layer="10"': 0.001, 'engine_exit_seconds_total{exit_layer="30"': 0 },
  };
  for (const [name, figure] of Object.entries(told)) t.equal(await value(name), figure, name);
  metrics.down();
  const gauges = ['engine_up', 'num_requests_running', 'num_requests_waiting', 'kv_cache_usage_perc'];
  for (const name of [...gauges, 'kv_cache_reusable_perc']) t.equal(await value(name), 0, `${name} without an engine`);
});

void t.test('the last predicted wait counts, and the silence since then while a sequence is open', async (t) => {
  movedClock(t);
  const { metrics } = fixture();
  const waits = (waitMs: number): void => {
    const { load, ...rest } = step(monotonicMs(), {});
    metrics.step({ ...rest, load: { ...load, waitMs } });
  };
  t.equal(metrics.waitMs, 0);
  waits(70);
  await sleep(30);
  t.equal(metrics.waitMs, 70, 'no sequence is open');
  metrics.begin('a', { ...FACTS, arrivedAt: monotonicMs(), budget: null });
  await sleep(30);
  t.equal(metrics.waitMs, 100, 'silence counts from the arrival');
  waits(20);
  t.equal(metrics.waitMs, 20, 'a step ends it');
  metrics.down();
  t.equal(metrics.waitMs, null);
});
