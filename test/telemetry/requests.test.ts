import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Budget, EndedEvent, EndReason, PlannedEvent, StepMessage } from '../../src/protocol/index.js';
import { budgetClass } from '../../src/gateway/telemetry/sequences.js';
import { RequestMetrics } from '../../src/gateway/telemetry/requests.js';
import { monotonicMs } from '../../src/util/clock.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { FakeEngine, plannedEvent, READY } from '../fakes/engine.js';

function budget(totalMs: number | null): Budget {
  return { totalMs, ttftMs: totalMs === null ? 5 : null, tpotMs: null, onMiss: 'continue' };
}

/** Facts of a request, without its budget. */
const FACTS = { arrivedAt: 0, promptTokens: 3 };

const PARTS = { planning: 1, prefill: 0, decode: 4, head: 1, sampling: 1, messages: 1 };

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
  /** Number of budgets up to 250 ms with each outcome. */
  const outcomes = (...names: string[]) =>
    Promise.all(names.map((of) => value(`budget_requests_total{budget_class="up_to_250ms",outcome="${of}"`)));
  return { metrics, begin, value, outcomes };
}

void t.test('a series is 0 and not absent before its first event', async (t) => {
  const { value } = fixture();
  for (const name of [
    'engine_step_part_seconds_count{part="head"',
    'key_limited_total{limit="in_flight"',
    'request_failure_total{reason="queue_full"',
    'request_success_total{finished_reason="abort"',
    'budget_requests_total{budget_class="per_token",outcome="refused"',
    'exit_tokens_total{exit_layer="15"',
    'planned_total{exit_layer="15",service_class="best_effort"',
    'guarantees_total{outcome="kept"',
    'guarantees_total{outcome="missed"',
    'engine_exit_seconds_total{exit_layer="30"',
    'exit_inter_token_latency_seconds_count{exit_layer="10"',
    'actual_over_predicted_ratio_count{time="total"',
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

void t.test('a restarted engine does not undo counts', async (t) => {
  const { metrics, begin, value } = fixture();
  begin('a', 1000);
  const token = { id: 'a', token: 1, exit: 15, logprobs: null };
  for (const at of [10, 20]) metrics.step(step(at, { tokens: [token] }));
  metrics.down();
  metrics.ready({ ...READY, exits: [...READY.exits, 35] });
  t.equal(await value('exit_inter_token_latency_seconds_count{exit_layer="15"'), 1);
  t.equal(await value('exit_tokens_total{exit_layer="15"'), 2);
  t.equal(await value('exit_inter_token_latency_seconds_count{exit_layer="35"'), 0, 'a new exit starts at 0');
});

void t.test('a budget has a class by its total', (t) => {
  const classes = [1, 250, 251, 1000, 4000, 16_000, 16_001].map((ms) => budgetClass(budget(ms)));
  t.same(classes, ['up_to_250ms', 'up_to_250ms', 'up_to_1s', 'up_to_1s', 'up_to_4s', 'up_to_16s', 'over_16s']);
  t.equal(budgetClass(budget(null)), 'per_token');
  t.end();
});

void t.test('plans count by exit and service class', async (t) => {
  const { metrics, begin, value } = fixture();
  for (const id of ['a', 'c', 'd']) begin(id, 200);
  metrics.begin('free', { ...FACTS, budget: null });
  const [c, d] = [planned('c', 10, { serviceClass: 'best_effort' }), planned('d', 15, { serviceClass: 'best_effort' })];
  const free = planned('free', 10, { serviceClass: 'none' });
  metrics.step(step(100, { planned: [planned('a', 10), c, d, free] }));
  const classes = ['guaranteed', 'best_effort', 'none'];
  const counted = (exit: number) =>
    Promise.all(classes.map((each) => value(`planned_total{exit_layer="${exit}",service_class="${each}"`)));
  t.same(await counted(10), [1, 1, 1]);
  t.same(await counted(15), [0, 1, 0]);
  t.same(await counted(20), [0, 0, 0], 'an exit without plans is 0');
});

/** Every end of an answer with a budget of 200 ms. */
const ends = [
  ended('met', 'stop', 199),
  ended('cut', 'deadline', 200),
  ended('late', 'length', 201),
  ended('broken', 'error', 10),
  ended('gone', 'cancelled', 10),
];

void t.test('a whole answer in time keeps a guarantee; any other end misses it', async (t) => {
  const { metrics, begin, value } = fixture();
  const ids = ['met', 'cut', 'late', 'broken', 'rejected', 'lost', 'gone', 'best'];
  for (const id of ids) begin(id, 200);
  metrics.begin('free', { ...FACTS, budget: null });
  const classOf = (id: string) => (id === 'best' || id === 'free' ? 'best_effort' : 'guaranteed');
  const plans = [...ids, 'free'].map((id) => planned(id, 10, { serviceClass: classOf(id) }));
  metrics.step(step(10, { planned: plans }));
  const rejected = [{ id: 'rejected', reason: 'grammars_lost', leastFeasibleMs: null }] as const;
  const late = [ended('best', 'length', 201), ended('free', 'length', 201)];
  metrics.step(step(300, { rejected, ended: [...ends, ...late] }));
  metrics.down();
  const outcome = (of: string) => value(`guarantees_total{outcome="${of}"`);
  t.same([await outcome('kept'), await outcome('missed')], [1, 5], 'cut, late, failed, refused and lost are missed');
});

void t.test('a cut answer is cut, whatever the engine reports later', async (t) => {
  const ids = ['length', 'error', 'rejected', 'silent', 'whole', 'late'];
  const { metrics, value, outcomes } = fixture();
  const truncate: Budget = { ...budget(200), onMiss: 'truncate' };
  for (const id of ids) metrics.begin(id, { ...FACTS, budget: truncate });
  const token = (id: string) => ({ id, token: 1, exit: 30, logprobs: null });
  metrics.step(step(20, { tokens: [token('length'), token('silent')] }));
  for (const id of ids.slice(0, 4)) {
    const firstTokenAt = id === 'length' || id === 'silent' ? 20 : null;
    metrics.cut({ ...ended(id, 'deadline', 200), startedAt: null, firstTokenAt });
  }
  metrics.step(
    step(300, {
      tokens: [token('length')],
      rejected: [{ id: 'rejected', reason: 'queue_full', leastFeasibleMs: null }],
      ended: [
        { ...ended('length', 'length', 300), startedAt: 5 },
        { ...ended('error', 'error', 300), firstTokenAt: 300 },
        ended('whole', 'length', 200),
        // The gateway did not cut it.
        ended('late', 'length', 230),
      ],
    }),
  );
  metrics.down();
  t.same(await outcomes('cut', 'empty', 'whole', 'late', 'refused'), [2, 2, 1, 1, 0]);
  t.equal(await value('request_success_total{finished_reason="deadline"'), 4);
  t.equal(await value('request_success_total{finished_reason="length"'), 2);
  for (const reason of ['error', 'queue_full', 'engine_lost'])
    t.equal(await value(`request_failure_total{reason="${reason}"`), 0, reason);
  t.equal(await value('generation_tokens_total'), 3, 'tokens after the cut count as work');
  t.equal(await value('request_generation_tokens_sum'), 2, 'tokens after the cut are not part of an answer');
  t.equal(await value('e2e_request_latency_seconds_sum'), (4 * 200 + 200 + 230) / 1000);
  t.equal(await value('time_to_first_token_seconds_count'), 4);
  t.equal(metrics.live, 0);
});

void t.test('a landed answer counts by the class of its budget', async (t) => {
  const { metrics, begin, value, outcomes } = fixture();
  const ids = ['a', 'b', 'late', 'cut', 'whole'];
  for (const id of ids) begin(id, 200);
  metrics.step(step(10, { planned: ids.map((id) => planned(id, 15, { reason: 'load' })) }));
  const token = { id: 'a', token: 1, exit: 15, logprobs: null };
  metrics.step(step(20, { tokens: [token, token] }));
  metrics.cut(ended('cut', 'deadline', 200));
  const landed = { at: 7, pressure: 2, probability: 0.1 };
  const land = (id: string, endedAt: number) => ({ ...ended(id, 'stop', endedAt), landed });
  const all = [land('a', 150), land('b', 150), land('late', 250), land('cut', 150)];
  metrics.step(step(150, { ended: [...all, ended('whole', 'stop', 150)] }));
  t.same(await outcomes('landed', 'whole', 'late'), [2, 1, 1], 'a landing may be late');
  t.same(await outcomes('empty'), [1], 'the client of the cut answer saw no landing');
  t.equal(await value('depth_reasons_total{reason="load"'), 5);
  t.equal(await value('depth_reasons_total{reason="deepest"'), 0);
});

void t.test('the outcome that the gateway judged counts, whatever the end says', async (t) => {
  const { metrics, begin, outcomes } = fixture();
  for (const id of ['back', 'blank']) begin(id, 200);
  metrics.judged('back', 'landed');
  metrics.judged('blank', 'empty');
  metrics.judged('unknown', 'cut');
  metrics.step(step(200, { ended: [ended('back', 'deadline', 200), ended('blank', 'stop', 100)] }));
  t.same(await outcomes('landed', 'empty', 'cut'), [1, 1, 0]);
});

void t.test('an answer cut before its engine exits is not lost', async (t) => {
  const { metrics, value } = fixture();
  const engine = new FakeEngine(() => ({ tokens: [] }));
  metrics.observe(engine);
  const truncate: Budget = { ...budget(200), onMiss: 'truncate' };
  for (const id of ['cut', 'lost']) metrics.begin(id, { ...FACTS, budget: truncate });
  engine.emit('cut', ended('cut', 'deadline', 200));
  engine.emit('cut', ended('unknown', 'deadline', 200));
  engine.emit('down', 'killed');
  t.equal(await value('request_success_total{finished_reason="deadline"'), 1);
  t.equal(await value('request_failure_total{reason="engine_lost"'), 1);
});

void t.test('every end of a request with a budget has an outcome', async (t) => {
  const { metrics, begin, value, outcomes } = fixture();
  for (const id of ['met', 'late', 'cut', 'gone', 'broken', 'rejected', 'lost']) begin(id, 200);
  begin('first', null);
  const rejected = [{ id: 'rejected', reason: 'budget_infeasible', leastFeasibleMs: 1 }] as const;
  metrics.step(step(300, { rejected, ended: [...ends, ended('first', 'stop', 30)] }));
  metrics.down();
  t.same(await outcomes('whole', 'late', 'cut', 'refused'), [1, 1, 0, 1]);
  t.same(await outcomes('empty'), [3], 'cut, failed and lost without a token');
  const late = await value('budget_requests_total{budget_class="per_token",outcome="late"');
  t.equal(late, 1, 'its first token took 20 ms, the budget is 5 ms');
  t.equal(await value('request_success_total{finished_reason="abort"'), 1);
  t.equal(await value('request_failure_total{reason="engine_lost"'), 1);
});

void t.test("a rejection for lack of capacity is a refused budget; a client's mistake has no outcome", async (t) => {
  const { metrics, begin, value, outcomes } = fixture();
  const reasons = ['queue_full', 'budget_infeasible', 'grammars_lost', 'grammar', 'too_long'] as const;
  for (const reason of reasons) begin(reason, 200);
  metrics.step(step(10, { rejected: reasons.map((reason) => ({ id: reason, reason, leastFeasibleMs: null })) }));
  for (const reason of reasons) t.equal(await value(`request_failure_total{reason="${reason}"`), 1, reason);
  t.same(await outcomes('refused', 'late'), [3, 0]);
  t.equal(metrics.live, 0);
});

void t.test('an answer cut at its deadline is late only if its first token was late', async (t) => {
  const { metrics, outcomes } = fixture();
  for (const [id, ttftMs] of Object.entries({ cut: 30, late: 10, never: 10 }))
    metrics.begin(id, { ...FACTS, budget: { ...budget(200), ttftMs } });
  // The engine's clock may be slightly behind the deadline of the cut.
  const never = { ...ended('never', 'deadline', 201), firstTokenAt: null };
  const tokens = ['cut', 'late'].map((id) => ({ id, token: 1, exit: 30, logprobs: null }));
  metrics.step(step(201, { tokens, ended: [ended('cut', 'deadline', 201), ended('late', 'deadline', 201), never] }));
  t.same(await outcomes('cut', 'late', 'empty'), [1, 1, 1]);
});

void t.test("an answer that breaks in the gateway is a failure, not a client's cancel", async (t) => {
  const { metrics, begin, value } = fixture();
  begin('broken', 200);
  metrics.broken('broken');
  t.equal(metrics.live, 0, 'a drain does not wait for the failed answer');
  metrics.broken('broken');
  metrics.step(step(10, { ended: [ended('broken', 'cancelled', 10)] }));
  t.equal(await value('request_failure_total{reason="internal"'), 1);
  t.equal(await value('request_success_total{finished_reason="abort"'), 0);
  t.equal(await value('budget_requests_total{budget_class="up_to_250ms",outcome="empty"'), 1);
  t.equal(await value('prompt_tokens_total'), 3, 'work of the engine counts');
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
  const token = (at: number, exit: number): void => {
    metrics.step(step(at, { tokens: [{ id: 'a', token: 1, exit, logprobs: null }], work }));
  };
  token(20, 15);
  token(30, 30);
  token(40, 30);
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

void t.test('a missed part of a budget is late, and a single token has no TPOT', async (t) => {
  const { metrics, value, outcomes } = fixture();
  const tight: Budget = { totalMs: 200, ttftMs: 10, tpotMs: 5, onMiss: 'continue' };
  const budgets = { both: tight, pace: { ...tight, ttftMs: null }, one: { ...tight, ttftMs: null } };
  for (const [id, each] of Object.entries(budgets)) metrics.begin(id, { ...FACTS, budget: each });
  const tokens = ['both', 'pace'].map((id) => ({ id, token: 1, exit: 30, logprobs: null }));
  const one = { id: 'one', token: 1, exit: 30, logprobs: null };
  metrics.step(step(20, { tokens: [...tokens, one] }));
  metrics.step(step(40, { tokens, ended: Object.keys(budgets).map((id) => ended(id, 'stop', 40)) }));
  t.equal(await value('request_time_per_output_token_seconds_count'), 2);
  t.same(await outcomes('late', 'whole'), [2, 1]);
});

void t.test('a cancelled answer and an answer without predictions do not count in the prediction ratios', async (t) => {
  const { metrics, begin, value } = fixture();
  for (const id of ['left', 'unpredicted']) begin(id, 1000);
  const nothing = { predictedTtftMs: 0, predictedTpotMs: 0, predictedMs: 0 };
  metrics.step(step(10, { planned: [planned('left', 30), { ...planned('unpredicted', 30), ...nothing }] }));
  metrics.step(step(40, { ended: [ended('left', 'cancelled', 40), ended('unpredicted', 'stop', 40)] }));
  for (const time of ['ttft', 'total']) t.equal(await value(`actual_over_predicted_ratio_count{time="${time}"`), 0);
});

void t.test('a cancelled answer has no outcome, a failed one is empty, and a late complete one late', async (t) => {
  const { metrics, value, outcomes } = fixture();
  const cut: Budget = { ...budget(200), onMiss: 'truncate' };
  for (const id of ['left', 'broken']) metrics.begin(id, { ...FACTS, budget: cut });
  metrics.begin('rejecting', { ...FACTS, budget: { ...cut, onMiss: 'reject' } });
  const ends = [ended('left', 'cancelled', 230), ended('broken', 'error', 230), ended('rejecting', 'stop', 230)];
  metrics.step(step(300, { ended: ends }));
  t.same(await outcomes('cut', 'empty', 'late'), [0, 1, 1]);
  t.equal(await value('request_success_total{finished_reason="deadline"'), 0);
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
  const token = { id: 'a', token: 1, exit: 30, logprobs: null };
  for (const at of [2000, 3000]) metrics.step(step(at, { tokens: [token], load }));
  metrics.step(step(4000, { tokens: [token], work: { ...work, prefillTokens: 0 }, load }));
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
  const silent = metrics.waitMs ?? 0;
  t.ok(silent >= 99 && silent < 60_000, `${silent} ms: silence counts from the arrival`);
  waits(20);
  t.ok((metrics.waitMs ?? 0) < 60, 'a step ends it');
  metrics.down();
  t.equal(metrics.waitMs, null);
});
