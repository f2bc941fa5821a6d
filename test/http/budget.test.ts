/** The report of a plan and of its budget. test/api/params.test.ts has the budgets of headers and fields. */
import t from 'tap';
import type { Script } from '../fakes/engine.js';
import { build, says } from '../fakes/server.js';
import { movedClock } from '../support/moved-clock.js';
import { until } from '../support/until.js';

const PATH = '/v1/completions';
const prompt = { prompt: 'Hello' };
const within = (ms: string, onMiss: string) => ({ 'X-Latency-Budget-Ms': ms, 'X-Budget-On-Miss': onMiss });

void t.test('the report says whether the budget was met', async (t) => {
  movedClock(t);
  const server = await build(t, says('Paris is here', { pace: 5 }));
  const met = async (budget: string) => (await server.ask(PATH, prompt, { 'X-Latency-Budget-Ms': budget })).body.sortie;
  t.match(await met('10000'), {
    ...{ met: true, outcome: 'whole', budget_ms: 10000 },
    ...{ predicted_ms: 10, predicted_p10_ms: 8, predicted_p90_ms: 14 },
    plan: { service_class: 'guaranteed', exit_layer: 30, expected_tokens: 6, probability: 0.998 },
  });
  t.match(await met('0.001'), { met: false, outcome: 'late', budget_ms: 0.001 });
  // The first token comes 2 ms after the request, the others later.
  for (const [sortie, isMet] of [
    [{ slo_ttft_ms: 1 }, false],
    [{ slo_ttft_ms: 3, slo_tpot_ms: 60_000, latency_budget_ms: 60_000 }, true],
    [{ slo_ttft_ms: 3, slo_tpot_ms: 0.001, latency_budget_ms: 60_000 }, false],
  ] as const)
    t.match((await server.ask(PATH, { ...prompt, sortie })).body.sortie, { met: isMet }, JSON.stringify(sortie));
});

void t.test('the report states the time of the first sentence where a budget does', async (t) => {
  const server = await build(t, says('It is in France. It is large.', { pace: 20 }));
  const report = async (sortie: object) => (await server.ask(PATH, { ...prompt, sortie })).body.sortie;
  const met = await report({ latency_budget_ms: 60_000, first_sentence_ms: 60_000 });
  t.match(met, { met: true, first_sentence_ms: Number });
  const { first_sentence_ms: ms = NaN, actual_ms: all } = met as { first_sentence_ms?: number; actual_ms: number };
  t.ok(ms > 50 && ms < all - 30, `${ms} of ${all} ms`);
  t.match(await report({ first_sentence_ms: 1 }), { met: false, outcome: 'late', first_sentence_ms: Number });
  t.match(await report({}), { first_sentence_ms: undefined });
});

void t.test('the report describes the slowest choice, and its TPOT covers the tokens after the first', async (t) => {
  movedClock(t);
  const slower = { predictedTtftMs: 7, predictedTpotMs: 3, predictedMs: 50, predictedP90Ms: 70 };
  const server = await build(t, ({ id }) => ({
    tokens: [5, 5, 5],
    pace: 5,
    ...(id.endsWith('-1') && { plan: slower }),
    ...(id.endsWith('-2') && { plan: { exit: 15 } }),
  }));
  const times: number[] = [];
  const lastAt = new Map<string, number>();
  server.engine.on('step', ({ at, tokens, ended }) => {
    for (const { id } of tokens) lastAt.set(id, at);
    // The step that finds no further token takes as long as a step with a token.
    for (const { id, firstTokenAt } of ended) times.push(((lastAt.get(id) ?? NaN) - (firstTokenAt ?? NaN)) / 2);
  });
  const sortie = (await server.ask(PATH, { ...prompt, n: 3 })).body.sortie as { tpot_ms: number };
  t.match(sortie, {
    plan: { exit_layer: 30, predicted_ttft_ms: 7, predicted_tpot_ms: 3 },
    exit_layers: { 30: 9 },
    ...{ predicted_ms: 50, predicted_p10_ms: 8, predicted_p90_ms: 70, ttft_ms: 2, queue_ms: 1 },
  });
  t.ok(Math.abs(sortie.tpot_ms - Math.max(...times)) < 0.001, `${sortie.tpot_ms} of ${times.join(', ')}`);
});

void t.test('the plan of several choices has the weakest class, the least probability and all tokens', async (t) => {
  const plans: readonly Script['plan'][] = [
    { serviceClass: 'guaranteed', expectedTokens: 3.4, expectedTokensP90: 8, probability: 0.99951 },
    { serviceClass: 'best_effort', expectedTokens: 4.3, expectedTokensP90: 9, probability: 0.91239 },
    { serviceClass: 'best_effort', expectedTokens: 5, expectedTokensP90: 10, probability: null },
  ];
  const server = await build(t, ({ id }) => ({ tokens: [5], plan: plans[Number(id.split('-')[1])] ?? {} }));
  const budget = { 'X-Latency-Budget-Ms': '10000' };
  for (const [n, headers, plan] of [
    [1, budget, { service_class: 'guaranteed', expected_tokens: 3, expected_tokens_p90: 8, probability: 1 }],
    [2, budget, { service_class: 'best_effort', expected_tokens: 8, expected_tokens_p90: 17, probability: 0.912 }],
    [3, budget, { service_class: 'best_effort', expected_tokens: 13, expected_tokens_p90: 27, probability: 0.912 }],
  ] as const)
    t.match((await server.ask(PATH, { ...prompt, n }, headers)).body, { sortie: { plan } }, `${n} choices`);
});

void t.test('a request without a budget has the service class none, and no field without a value', async (t) => {
  const server = await build(t);
  const { text, body } = await server.ask(PATH, prompt);
  t.notMatch(text.slice(text.indexOf('"sortie"')), /null/);
  t.strictSame(body.sortie?.plan, {
    ...{ service_class: 'none', exit_layer: 30, reason: 'deepest' },
    ...{ expected_tokens: 6, expected_tokens_p90: 12 },
    ...{ predicted_ttft_ms: 1.5, predicted_tpot_ms: 0.5 },
  });
});

void t.test('a budget that ends before any output is a 503, streamed or not', async (t) => {
  for (const [delay, onMiss, outcome] of [
    [10_000, 'truncate', 'empty'],
    // Without a delay, the plan is there and the prompt is not done.
    [0, 'land', 'empty'],
    [0, 'land', 'refused'],
  ] as const)
    for (const stream of [false, true]) {
      const server = await build(t, () => ({ tokens: [5], delay, prefill: 10_000 }));
      let planned = 0;
      server.engine.on('step', (step) => (planned += step.planned.length));
      const asked = server.ask(PATH, { ...prompt, stream, n: outcome === 'empty' ? 2 : 1 }, within('60', onMiss));
      await until('running', () => server.engine.live === (outcome === 'empty' ? 2 : 1) && (delay > 0 || planned > 0));
      // EngineClient ends an answer by `deadline` when the deadline timer fires.
      for (const { id } of server.engine.requests)
        if (outcome === 'empty') server.engine.cancel(id, 'deadline');
        else server.engine.refuse(id);
      const error = { code: 'budget_infeasible', least_feasible_budget_ms: null, outcome };
      t.match(await asked, { status: 503, body: { error } });
    }
});

// `sortie.dry_run`: the plan of a request that is not run.

const messages = [{ role: 'user', content: 'Hello' }];
const sortie = { dry_run: true, latency_budget_ms: 500, exit_layer: '10-20' };

void t.test('the answer is empty, and the report has the plan', async (t) => {
  const server = await build(t, says('never said', { plan: { predictedMs: 123 } }), { keepsLog: true });
  const plan = { service_class: 'guaranteed', exit_layer: 20 };
  for (const [path, prompt] of [
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: 'Hello' }],
  ] as const) {
    const answer = await server.ask(path, { ...prompt, sortie });
    t.match(answer, { status: 200, headers: { 'x-exit-layer': '20' } });
    t.match(answer.body, { choices: [{ finish_reason: 'length' }], usage: { completion_tokens: 0 } });
    t.match(answer.body.sortie, { plan, predicted_ms: 123, budget_ms: 500, met: undefined, outcome: undefined });
    t.same(answer.body.sortie?.exit_layers, {});
  }
  t.equal(server.last().isDryRun, true);
  const streamed = await server.chunks('/v1/chat/completions', { messages, sortie });
  t.match(streamed.at(-1), { choices: [{ finish_reason: 'length' }], sortie: { predicted_ms: 123 } });
  const counts = /^sortie_(planned_total|request_success_total|prompt_tokens_total|answers_total)\{.* [1-9]/m;
  t.notMatch((await server.get('/metrics')).text, counts, 'no metric counts a dry run');
  for (const line of (await server.logged(3)).slice(0, 3)) {
    t.equal(line.dry_run, true);
    t.notOk('completion_tokens' in line, 'simulate passes these lines over');
  }
});
