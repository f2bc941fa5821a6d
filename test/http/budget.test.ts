import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Script } from '../fakes/engine.js';
import { build, exchange, says } from '../fakes/server.js';
import { until } from '../support/until.js';

interface ErrorAnswer {
  error: { message: string; param: string | null; exits?: number[] };
}

const prompt = { prompt: 'Hello' };
const within = (ms: string, onMiss: string) => ({ 'X-Latency-Budget-Ms': ms, 'X-Budget-On-Miss': onMiss });

void t.test('headers and body fields become the budget', async (t) => {
  const server = await build(t);
  // An answer without a total has no instant to land by.
  const first = { totalMs: null, ttftMs: null, tpotMs: null, onMiss: 'continue' };
  const none = { ...first, onMiss: 'land' };
  const cases: [Record<string, string>, object, object | null][] = [
    [{}, {}, null],
    [{ 'X-Latency-Budget-Ms': '250' }, {}, { ...none, totalMs: 250 }],
    [{ 'X-SLO-TTFT-Ms': '80.5', 'X-SLO-TPOT-Ms': '9' }, {}, { ...first, ttftMs: 80.5, tpotMs: 9 }],
    [within('250', 'truncate'), {}, { ...none, totalMs: 250, onMiss: 'truncate' }],
    [{}, { latency_budget_ms: 99, budget_on_miss: 'reject' }, { ...none, totalMs: 99, onMiss: 'reject' }],
    [{ 'X-SLO-TTFT-Ms': '80', 'X-Budget-On-Miss': 'land' }, {}, { ...first, ttftMs: 80 }],
    [{ 'X-SLO-TTFT-Ms': '80', 'X-Budget-On-Miss': 'reject' }, {}, { ...first, ttftMs: 80, onMiss: 'reject' }],
    [within('250', 'continue'), {}, { ...first, totalMs: 250 }],
    [within('250', 'reject'), { budget_on_miss: 'land' }, { ...none, totalMs: 250 }],
    [{}, { slo_ttft_ms: 5, slo_tpot_ms: 6 }, { ...first, ttftMs: 5, tpotMs: 6 }],
    [{ 'X-Latency-Budget-Ms': '250' }, { latency_budget_ms: 99 }, { ...none, totalMs: 99 }],
    [{ 'x-envoy-expected-rq-timeout-ms': '15000' }, {}, { ...none, totalMs: 14_750 }],
    [{ 'x-envoy-expected-rq-timeout-ms': '99999999999' }, {}, { ...none, totalMs: 86_399_750 }],
    [{ 'x-envoy-expected-rq-timeout-ms': '700' }, { latency_budget_ms: 900 }, { ...none, totalMs: 665 }],
    [{ 'x-envoy-expected-rq-timeout-ms': '2000', 'X-SLO-TTFT-Ms': '80' }, {}, { ...none, totalMs: 1900, ttftMs: 80 }],
    [{ 'Request-Timeout': '3', 'grpc-timeout': '2S', 'x-llm-d-slo-ttft-ms': '80' }, {}, null],
    [{ 'X-Latency-Budget-Ms': '86400000' }, {}, { ...none, totalMs: 86_400_000 }],
    [{ 'X-Stainless-Timeout': '600' }, {}, null],
    [{}, { latency_budget_ms: null }, null],
  ];
  for (const [headers, sortie, want] of cases) {
    await t.test(JSON.stringify([headers, sortie]), async (t) => {
      const response = await server.post('/v1/completions', { ...prompt, sortie }, headers);
      t.equal(response.status, 200);
      const got = server.engine.requests.at(-1)?.depth.budget;
      t.same(got, want, JSON.stringify([headers, sortie]));
    });
  }
});

void t.test('of several values for a budget header, the smallest counts', async (t) => {
  const server = await build(t);
  const none = { totalMs: null, ttftMs: null, tpotMs: null };
  const [total, ttft, tpot] = ['X-Latency-Budget-Ms', 'X-SLO-TTFT-Ms', 'X-SLO-TPOT-Ms'];
  const cases: [Record<string, string>, object, object][] = [
    [{ [total]: '500, 800' }, {}, { totalMs: 500 }],
    [{ [total]: '800,500' }, {}, { totalMs: 500 }],
    [{ [total]: ' 800 ,\t500.5 , 501' }, {}, { totalMs: 500.5 }],
    [{ [ttft]: '90, 80' }, {}, { ttftMs: 80 }],
    [{ [tpot]: '9, 12' }, {}, { tpotMs: 9 }],
    [{ 'x-envoy-expected-rq-timeout-ms': '300, 200', [total]: '250, 400' }, {}, { totalMs: 190 }],
    [{ [total]: '300', 'X-Budget-On-Miss': 'truncate, truncate' }, {}, { totalMs: 300, onMiss: 'truncate' }],
    [{ [total]: '500, 300' }, { latency_budget_ms: 400 }, { totalMs: 400 }],
  ];
  for (const [headers, sortie, want] of cases) {
    await t.test(JSON.stringify([headers, sortie]), async (t) => {
      const response = await server.post('/v1/completions', { ...prompt, sortie }, headers);
      t.equal(response.status, 200);
      const got = server.engine.requests.at(-1)?.depth.budget;
      const onMiss = 'totalMs' in want ? 'land' : 'continue';
      t.same(got, { ...none, onMiss, ...want }, JSON.stringify([headers, sortie]));
    });
  }
});

void t.test('a budget header in two lines counts with the smaller value', async (t) => {
  const server = await build(t);
  const body = JSON.stringify(prompt);
  const lines = [
    ...['POST /v1/completions HTTP/1.1', 'Host: x', 'Connection: close', 'Content-Type: application/json'],
    ...['X-Latency-Budget-Ms: 800', 'X-SLO-TTFT-Ms: 90', 'X-Latency-Budget-Ms: 500', 'X-SLO-TTFT-Ms: 95'],
    `Content-Length: ${body.length}`,
  ];
  t.match(await exchange(server.port, `${lines.join('\r\n')}\r\n\r\n${body}`), /^HTTP\/1\.1 200 /);
  t.match(server.engine.requests.at(-1)?.depth.budget, { totalMs: 500, ttftMs: 90 });
});

void t.test('the error names the invalid one of several header values', async (t) => {
  const server = await build(t);
  const cases: [Record<string, string>, string, string][] = [
    [{ 'X-Latency-Budget-Ms': '500, fast' }, 'X-Latency-Budget-Ms', '"fast" as value 2 of 2'],
    [{ 'X-Latency-Budget-Ms': '0, 500' }, 'X-Latency-Budget-Ms', '"0" as value 1 of 2'],
    [{ 'X-Latency-Budget-Ms': '500,,800' }, 'X-Latency-Budget-Ms', '"" as value 2 of 3'],
    [{ 'X-Latency-Budget-Ms': '500, 99999999999' }, 'X-Latency-Budget-Ms', '"99999999999" as value 2 of 2'],
    [{ 'X-SLO-TPOT-Ms': '9, -1' }, 'X-SLO-TPOT-Ms', '"-1" as value 2 of 2'],
    [{ 'x-envoy-expected-rq-timeout-ms': '2, x' }, 'x-envoy-expected-rq-timeout-ms', '"x" as value 2 of 2'],
    [{ 'X-Budget-On-Miss': 'truncate, shrug' }, 'X-Budget-On-Miss', '"shrug" as value 2 of 2'],
    [{ 'X-Budget-On-Miss': 'truncate, reject' }, 'X-Budget-On-Miss', 'different ones: truncate, reject'],
    [{ 'X-Budget-On-Miss': 'reject, reject, continue' }, 'X-Budget-On-Miss', 'different ones: reject, continue'],
  ];
  for (const [headers, param, got] of cases) {
    await t.test(JSON.stringify(headers), async (t) => {
      const response = await server.post('/v1/completions', prompt, headers);
      t.equal(response.status, 400, JSON.stringify(headers));
      const { error } = (await response.json()) as ErrorAnswer;
      t.equal(error.param, param);
      t.ok(error.message.startsWith(`${param} must `), error.message);
      t.ok(error.message.endsWith(`${got}.`), error.message);
    });
  }
  t.equal(server.engine.requests.length, 0);
});

void t.test('a malformed or non-positive budget is a 400 with its header as param', async (t) => {
  const server = await build(t);
  const cases: Record<string, readonly string[]> = {
    'X-Latency-Budget-Ms': ['0', '-5', 'fast', '1e3', '', 'NaN', 'Infinity', '99999999999'],
    ...{ 'X-SLO-TTFT-Ms': ['0'], 'X-SLO-TPOT-Ms': ['x'], 'X-Budget-On-Miss': ['shrug'] },
    ...{ 'x-envoy-expected-rq-timeout-ms': ['0', '-1', '5S'] },
    ...{
      'X-Exit-Layer': ['0', '12', 'deep', '10-12', '12-20', '20-10', '10-', '-10', '10-20-30'],
    },
  };
  for (const [name, values] of Object.entries(cases))
    for (const value of values)
      await t.test(`${name}: ${value}`, async (t) => {
        const response = await server.post('/v1/completions', prompt, { [name]: value });
        t.equal(response.status, 400, `${name}: ${value}`);
        t.equal(((await response.json()) as ErrorAnswer).error.param, name);
      });
  t.equal(server.engine.requests.length, 0);
});

void t.test('depth by name, header and body', async (t) => {
  const server = await build(t);
  const cases: [string, Record<string, string>, object, [number, number]][] = [
    ['fake', {}, {}, [10, 30]],
    ['fake:15', {}, {}, [15, 15]],
    ['fake', { 'X-Exit-Layer': '20' }, {}, [20, 20]],
    ['fake:20', { 'X-Exit-Layer': '20' }, {}, [20, 20]],
    ['fake', { 'X-Exit-Layer': '15-25' }, {}, [15, 25]],
    ['fake:15-25', {}, {}, [15, 25]],
    ['fake:15-25', { 'X-Exit-Layer': '15-25' }, {}, [15, 25]],
    ['fake', {}, { exit_layer: 10 }, [10, 10]],
    ['fake', { 'X-Exit-Layer': '20' }, { exit_layer: 10 }, [10, 10]],
    ['fake', {}, { exit_layer: '25-30' }, [25, 30]],
  ];
  for (const [model, headers, sortie, [minExit, maxExit]] of cases) {
    const response = await server.post('/v1/completions', { model, ...prompt, sortie }, headers);
    t.equal(response.status, 200);
    t.match(server.engine.requests.at(-1)?.depth, { minExit, maxExit });
    t.equal(((await response.json()) as { model: string }).model, model);
    t.equal(response.headers.get('x-exit-layer'), String(maxExit));
  }
});

void t.test('an error on a depth that is not an exit lists the exits', async (t) => {
  const server = await build(t);
  const wrong = await server.post('/v1/completions', prompt, { 'X-Exit-Layer': '12' });
  const { error } = (await wrong.json()) as ErrorAnswer;
  t.match(error.message, '10, 15, 20, 25, 30');
  t.same(error.exits, [10, 15, 20, 25, 30]);
  t.equal((await server.post('/v1/completions', { ...prompt, model: 'fake:12' })).status, 404);
  t.equal((await server.post('/v1/completions', { ...prompt, model: 'fake:20-15' })).status, 404);
});

void t.test('the error on a contradiction names the field or header that the client wrote', async (t) => {
  const server = await build(t);
  const cases: [Record<string, string>, object, string][] = [
    [{ 'X-Exit-Layer': '20' }, { model: 'fake:15' }, 'X-Exit-Layer'],
    [{}, { model: 'fake:15', sortie: { exit_layer: 20 } }, 'sortie.exit_layer'],
    [{ 'X-Exit-Layer': '15' }, { model: 'fake:15-20' }, 'X-Exit-Layer'],
    [{}, { model: 'fake:15', sortie: { exit_layer: '15-20' } }, 'sortie.exit_layer'],
  ];
  for (const [headers, fields, param] of cases) {
    const response = await server.post('/v1/completions', { ...prompt, ...fields }, headers);
    t.equal(response.status, 400, param);
    t.equal(((await response.json()) as ErrorAnswer).error.param, param);
  }
});

void t.test('the report says whether the budget was met', async (t) => {
  const server = await build(t);
  const met = async (budget: string): Promise<unknown> => {
    const response = await server.post('/v1/completions', prompt, { 'X-Latency-Budget-Ms': budget });
    return ((await response.json()) as { sortie: unknown }).sortie;
  };
  t.match(await met('10000'), {
    ...{ met: true, budget_ms: 10000, predicted_ms: 10, predicted_p10_ms: 8, predicted_p90_ms: 14 },
    plan: { service_class: 'guaranteed', exit_layer: 30, expected_tokens: 6, probability: 0.998 },
  });
  t.match(await met('0.001'), { met: false, budget_ms: 0.001 });
});

void t.test('an answer cut at its deadline meets no budget, also where its request asks for the cut', async (t) => {
  // EngineClient ends an answer this way when the deadline timer fires, never before the deadline.
  const server = await build(t, says('Paris is the', { end: 'deadline' }));
  const truncate = within('60000', 'truncate');
  for (const [headers, outcome] of [
    [truncate, 'cut'],
    [{ ...truncate, 'X-SLO-TTFT-Ms': '0.001' }, 'late'],
  ] as const) {
    const response = await server.post('/v1/completions', prompt, headers);
    t.match(await response.json(), { choices: [{ finish_reason: 'length' }], sortie: { outcome, met: false } });
  }
});

void t.test('each part of a budget can be missed on its own', async (t) => {
  // The first token comes 2 ms after the request, the others later.
  const server = await build(t, says('Paris is here', { pace: 5 }));
  const cases: [object, boolean][] = [
    [{ slo_ttft_ms: 1 }, false],
    [{ slo_ttft_ms: 3 }, true],
    [{ slo_tpot_ms: 0.001 }, false],
    [{ slo_tpot_ms: 60_000 }, true],
    [{ slo_ttft_ms: 3, slo_tpot_ms: 0.001, latency_budget_ms: 60_000 }, false],
    [{ slo_ttft_ms: 3, slo_tpot_ms: 60_000, latency_budget_ms: 60_000 }, true],
  ];
  for (const [sortie, met] of cases)
    await t.test(JSON.stringify(sortie), async (t) => {
      const response = await server.post('/v1/completions', { ...prompt, sortie });
      t.match(await response.json(), { sortie: { met, outcome: met ? 'whole' : 'late' } });
    });
});

void t.test('the report describes the slowest choice, and its TPOT covers the tokens after the first', async (t) => {
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
  const response = await server.post('/v1/completions', { ...prompt, n: 3 });
  const { sortie } = (await response.json()) as { sortie: { tpot_ms: number } };
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
  ] as const) {
    const response = await server.post('/v1/completions', { ...prompt, n }, headers);
    t.match(await response.json(), { sortie: { plan } }, `${n} choices`);
  }
});

void t.test('a request without a budget has the service class none, and no field without a value', async (t) => {
  const server = await build(t);
  const response = await server.post('/v1/completions', prompt);
  const text = await response.text();
  t.notMatch(text.slice(text.indexOf('"sortie"')), /null/);
  const { sortie } = JSON.parse(text) as { sortie: { plan: object } };
  t.strictSame(sortie.plan, {
    ...{ service_class: 'none', exit_layer: 30, reason: 'deepest', landing: 'off' },
    ...{ expected_tokens: 6, expected_tokens_p90: 12 },
    ...{ predicted_ttft_ms: 1.5, predicted_tpot_ms: 0.5 },
  });
});

void t.test('an answer whose deadline comes before any output is a 503, streamed or not', async (t) => {
  for (const [stream, delay, onMiss] of [
    [false, 10_000, 'truncate'],
    [true, 10_000, 'truncate'],
    [false, 0, 'land'],
    [true, 0, 'land'],
  ] as const) {
    // Without a delay, the plan is there and the prompt is not done.
    const server = await build(t, () => ({ tokens: [5], delay, prefill: 10_000 }));
    const asked = server.post('/v1/completions', { ...prompt, stream, n: 2 }, within('60', onMiss));
    await until('running', () => server.engine.live > 1);
    await sleep(20);
    // EngineClient ends an answer this way when the deadline timer fires.
    for (const { id } of server.engine.requests) server.engine.cancel(id, 'deadline');
    const response = await asked;
    t.equal(response.status, 503);
    t.match(await response.json(), {
      error: { code: 'budget_infeasible', least_feasible_budget_ms: null, outcome: 'empty' },
    });
  }
});

void t.test('a request that is refused behind its plan is a 503', async (t) => {
  const server = await build(t, () => ({ tokens: [5], prefill: 10_000 }));
  for (const stream of [false, true]) {
    const asked = server.post('/v1/completions', { ...prompt, stream }, within('60', 'land'));
    await until('running', () => server.engine.live > 0);
    await sleep(20);
    server.engine.refuse(server.engine.requests.at(-1)?.id ?? '');
    const response = await asked;
    t.equal(response.status, 503);
    t.match(await response.json(), { error: { code: 'budget_infeasible', outcome: 'refused' } });
  }
});
