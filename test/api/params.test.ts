/** The budget and the depth of a request: from headers, body and model name, and the policies of key and server. */
import t from 'tap';
import { openPolicy, policyOf, type RequestPolicy } from '../../src/gateway/api/context.js';
import { ApiError } from '../../src/gateway/api/errors.js';
import { waitLimitOf } from '../../src/gateway/api/generation/prompt.js';
import { requestBudget } from '../../src/gateway/api/params/budget.js';
import { requestDepth } from '../../src/gateway/api/params/depth.js';
import { MOST_SCORES, scoresOf } from '../../src/gateway/api/params/score-limit.js';
import type { SortieRequest } from '../../src/gateway/api/schemas/shared.js';
import type { Budget } from '../../src/protocol/index.js';
import { model } from '../fakes/server.js';

type Headers = Readonly<Record<string, string>>;
const lower = (headers: Headers) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
const budgetOf = (headers: Headers, body: SortieRequest = {}, policy: RequestPolicy = openPolicy) =>
  requestBudget(lower(headers), body, policy);
/** @param name a model, with its depth */
const depthOf = (headers: Headers, body: SortieRequest = {}, name = 'fake', policy: RequestPolicy = openPolicy) => {
  const { minExit, maxExit } = requestDepth(model, name, lower(headers), body, policy);
  return [minExit, maxExit];
};

const [total, ttft, tpot] = ['X-Latency-Budget-Ms', 'X-SLO-TTFT-Ms', 'X-SLO-TPOT-Ms'] as const;
const sentence = 'X-First-Sentence-Budget-Ms';
const onMiss = 'X-Budget-On-Miss';
const envoy = 'x-envoy-expected-rq-timeout-ms';
const exit = 'X-Exit-Layer';
const none = { totalMs: null, ttftMs: null, tpotMs: null };
// An answer without a total has no instant to land by.
const first = { ...none, onMiss: 'continue' } as const;
const land = { ...none, onMiss: 'land' } as const;

/** Headers and fields, and the budget that they state; of several values of a header, the smallest counts. */
const BUDGETS: readonly [Headers, SortieRequest, ReturnType<typeof requestBudget>][] = [
  [{}, {}, null],
  [{ [total]: '250' }, {}, { ...land, totalMs: 250 }],
  [{ [total]: ' \t500 ' }, {}, { ...land, totalMs: 500 }],
  [{ [ttft]: '80.5', [tpot]: '9' }, {}, { ...first, ttftMs: 80.5, tpotMs: 9 }],
  [{ [total]: '250', [onMiss]: 'truncate' }, {}, { ...none, totalMs: 250, onMiss: 'truncate' }],
  [{}, { latency_budget_ms: 99, budget_on_miss: 'reject' }, { ...none, totalMs: 99, onMiss: 'reject' }],
  [{ [ttft]: '80', [onMiss]: 'land' }, {}, { ...first, ttftMs: 80 }],
  [{ [ttft]: '80', [onMiss]: 'reject' }, {}, { ...none, ttftMs: 80, onMiss: 'reject' }],
  [{ [total]: '250', [onMiss]: 'continue' }, {}, { ...first, totalMs: 250 }],
  [{ [total]: '250', [onMiss]: 'reject' }, { budget_on_miss: 'land' }, { ...land, totalMs: 250 }],
  [{}, { slo_ttft_ms: 5, slo_tpot_ms: 6 }, { ...first, ttftMs: 5, tpotMs: 6 }],
  [{ [total]: '250' }, { latency_budget_ms: 99 }, { ...land, totalMs: 99 }],
  [{ [total]: '6000', [sentence]: '900, 800' }, {}, { ...land, totalMs: 6000, sentenceMs: 800 }],
  [{ [sentence]: '900' }, { first_sentence_ms: 700 }, { ...first, sentenceMs: 700 }],
  [{ [envoy]: '15000' }, {}, { ...land, totalMs: 14_750 }],
  [{ [envoy]: '99999999999' }, {}, { ...land, totalMs: 86_399_750 }],
  [{ [envoy]: '700' }, { latency_budget_ms: 900 }, { ...land, totalMs: 665 }],
  [{ [envoy]: '2000', [ttft]: '80' }, {}, { ...land, totalMs: 1900, ttftMs: 80 }],
  [{ 'Request-Timeout': '3', 'grpc-timeout': '2S', 'x-llm-d-slo-ttft-ms': '80' }, {}, null],
  [{ [total]: '86400000' }, {}, { ...land, totalMs: 86_400_000 }],
  [{ 'X-Stainless-Timeout': '600' }, {}, null],
  [{ [total]: '500, 800' }, {}, { ...land, totalMs: 500 }],
  [{ [total]: '800,500' }, {}, { ...land, totalMs: 500 }],
  [{ [total]: ' 800 ,\t500.5 , 501' }, {}, { ...land, totalMs: 500.5 }],
  [{ [ttft]: '90, 80' }, {}, { ...first, ttftMs: 80 }],
  [{ [tpot]: '9, 12' }, {}, { ...first, tpotMs: 9 }],
  [{ [envoy]: '300, 200', [total]: '250, 400' }, {}, { ...land, totalMs: 190 }],
  [{ [total]: '300', [onMiss]: 'truncate, truncate' }, {}, { ...none, totalMs: 300, onMiss: 'truncate' }],
  [{ [total]: '500, 300' }, { latency_budget_ms: 400 }, { ...land, totalMs: 400 }],
];

/** Model, headers and fields, and the exits that they allow. */
const DEPTHS: readonly [string, Headers, SortieRequest, readonly number[]][] = [
  ['fake', {}, {}, [10, 30]],
  ['fake:15', {}, {}, [15, 15]],
  ['fake', { [exit]: '20' }, {}, [20, 20]],
  ['fake:20', { [exit]: '20' }, {}, [20, 20]],
  ['fake', { [exit]: '15-25' }, {}, [15, 25]],
  ['fake:15-25', {}, {}, [15, 25]],
  ['fake:15-25', { [exit]: '15-25' }, {}, [15, 25]],
  ['fake', {}, { exit_layer: 10 }, [10, 10]],
  ['fake', { [exit]: '20' }, { exit_layer: 10 }, [10, 10]],
  ['fake', {}, { exit_layer: '25-30' }, [25, 30]],
];

void t.test('headers and body fields become the budget and the depth', (t) => {
  for (const [headers, body, budget] of BUDGETS)
    t.strictSame(budgetOf(headers, body), budget, JSON.stringify([headers, body]));
  for (const [name, headers, body, exits] of DEPTHS)
    t.strictSame(depthOf(headers, body, name), exits, JSON.stringify([name, headers, body]));
  t.end();
});

/** The ApiError that is thrown. */
function errorOf(read: () => unknown): ApiError {
  try {
    read();
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  throw new Error('nothing is thrown');
}

/** Wrong values of a header, and the ends of their errors; without one, the value is quoted. */
const WRONG: readonly [header: string, value: string, got?: string][] = [
  ...['0', '-5', 'fast', '1e3', '', 'NaN', 'Infinity', '99999999999', '\u00a0500', '500\u00a0'].map(
    (value): [string, string] => [total, value],
  ),
  [ttft, '0'],
  [tpot, 'x'],
  [onMiss, 'shrug'],
  ...['0', '-1', '5S'].map((value): [string, string] => [envoy, value]),
  ...['0', '12', 'deep', '10-12', '12-20', '20-10', '10-', '-10', '10-20-30'].map((value): [string, string] => [
    exit,
    value,
  ]),
  [total, '500, fast', '"fast" as value 2 of 2'],
  [total, '0, 500', '"0" as value 1 of 2'],
  [total, '500,,800', '"" as value 2 of 3'],
  [total, '500, 99999999999', '"99999999999" as value 2 of 2'],
  [ttft, '60, banana', '"banana" as value 2 of 2'],
  [tpot, '9, -1', '"-1" as value 2 of 2'],
  [envoy, '2, x', '"x" as value 2 of 2'],
  [onMiss, 'truncate, shrug', '"shrug" as value 2 of 2'],
  [onMiss, 'truncate, reject', 'different ones: truncate, reject'],
  [onMiss, 'reject, reject, continue', 'different ones: reject, continue'],
  [exit, '10, 10-30', 'different ones: 10, 10-30'],
];

void t.test('the error on a wrong header names it, and the wrong one of several values', (t) => {
  for (const [name, value, got = JSON.stringify(value)] of WRONG) {
    const { code, param, message } = errorOf(() => [budgetOf({ [name]: value }), depthOf({ [name]: value })]);
    t.match({ code, param }, { code: 'invalid_value', param: name }, value);
    t.ok(message.startsWith(`${name} must `), message);
    t.ok(message.endsWith(`${got}.`), message);
  }
  t.end();
});

void t.test('the error on a depth lists the exits, and names the field or header of a contradiction', (t) => {
  const exits = [10, 15, 20, 25, 30];
  t.match(
    errorOf(() => depthOf({ [exit]: '12' })),
    { message: '10, 15, 20, 25, 30', extra: { exits } },
  );
  for (const name of ['fake:12', 'fake:20-15'])
    t.match(
      errorOf(() => depthOf({}, {}, name)),
      { code: 'model_not_found' },
      name,
    );
  for (const [headers, body, name, param] of [
    [{ [exit]: '20' }, {}, 'fake:15', exit],
    [{}, { exit_layer: 20 }, 'fake:15', 'sortie.exit_layer'],
    [{ [exit]: '15' }, {}, 'fake:15-20', exit],
    [{}, { exit_layer: '15-20' }, 'fake:15', 'sortie.exit_layer'],
  ] as const)
    t.match(
      errorOf(() => depthOf(headers, body, name)),
      { code: 'invalid_value', param },
    );
  t.end();
});

void t.test('the key, then the server decide what a request does not state', (t) => {
  const withBudget = { ...none, totalMs: 500, onMiss: null };
  const server: RequestPolicy = { ...openPolicy, defaultBudget: { ...withBudget, totalMs: 900 }, onMiss: 'truncate' };
  const key = (policy: Partial<RequestPolicy> = {}) => policyOf(server, { ...openPolicy, ...policy });
  const nearer = { onMiss: 'reject', defaultBudget: { ...withBudget, onMiss: 'land' } } as const;
  for (const [policy, headers, budget] of [
    [key(), {}, { totalMs: 900, onMiss: 'truncate' }],
    [key(), { [total]: '70' }, { totalMs: 70, onMiss: 'truncate' }],
    [key({ onMiss: 'reject' }), {}, { totalMs: 900, onMiss: 'reject' }],
    [key({ onMiss: 'reject' }), { [total]: '70' }, { totalMs: 70, onMiss: 'reject' }],
    [key({ onMiss: 'reject' }), { [total]: '70', [onMiss]: 'continue' }, { onMiss: 'continue' }],
    // An action of the default budget is nearer, and counts with that budget alone.
    [key(nearer), {}, { totalMs: 500, onMiss: 'land' }],
    [key(nearer), { [total]: '70' }, { totalMs: 70, onMiss: 'reject' }],
    [key(nearer), { [ttft]: '70' }, { totalMs: null, ttftMs: 70 }],
    [key(nearer), { [onMiss]: 'truncate' }, { totalMs: 500, onMiss: 'truncate' }],
    [key(nearer), { [envoy]: '200' }, { totalMs: 190, onMiss: 'land' }],
  ] as const)
    t.match(budgetOf(headers, {}, policy), budget, JSON.stringify(headers));
  t.end();
});

void t.test('exits of key and server bound a request, and its error names what it stated', (t) => {
  const policy = policyOf({ ...openPolicy, minExit: 15 }, { ...openPolicy, maxExit: 25 });
  const depth = (headers: Headers, body: SortieRequest = {}, name = 'fake') => depthOf(headers, body, name, policy);
  t.strictSame(depth({}), [15, 25]);
  t.strictSame(depth({ [exit]: '15-30' }), [15, 25]);
  t.strictSame(depth({ [exit]: '10-20' }), [15, 20]);
  t.strictSame(depth({ [exit]: '20' }), [20, 20]);
  t.strictSame(depth({}, {}, 'fake:25'), [25, 25]);
  for (const [headers, body, name, param] of [
    [{ [exit]: '30' }, {}, 'fake', exit],
    [{ [exit]: '10' }, {}, 'fake', exit],
    [{ [exit]: '10-10' }, {}, 'fake', exit],
    [{ [exit]: '20' }, { exit_layer: 30 }, 'fake', 'sortie.exit_layer'],
    [{}, { exit_layer: '30-30' }, 'fake', 'sortie.exit_layer'],
    [{}, {}, 'fake:30', 'model'],
  ] as const)
    t.match(
      errorOf(() => depth(headers, body, name)),
      { param, extra: { exits: [15, 20, 25] } },
    );
  t.end();
});

void t.test('a request without a depth has the exits of use: from the first one that is right often enough', (t) => {
  const exits = model.exits.map((exit, i) => ({ ...exit, quality: { accuracy: i / 4 } }));
  const from = (minAccuracy: number) =>
    requestDepth({ ...model, exits }, 'fake', {}, {}, { ...openPolicy, minAccuracy }).minExit;
  t.strictSame([0, 0.5, 0.6, 2].map(from), [10, 20, 25, 10]);
  t.end();
});

void t.test('scores count prompts and answers', (t) => {
  const asked = { n: 2, promptTokens: [10], logprobs: 1 };
  t.equal(scoresOf(asked, [MOST_SCORES / 4 - 10]), MOST_SCORES);
  t.throws(() => scoresOf(asked, [MOST_SCORES / 4 - 9]), { code: 'invalid_value' });
  t.end();
});

void t.test('the wait for a prompt ends with the total budget, if the answer ends then as well', (t) => {
  const signal = new AbortController().signal;
  const deadlineOf = (budget: Budget | null) => waitLimitOf({ signal, arrivedAt: 1000 }, budget).deadlineAt;
  const whole = { totalMs: 250, ttftMs: 20, tpotMs: null };
  const parts = { totalMs: null, ttftMs: 20, tpotMs: 5 };
  t.equal(deadlineOf(null), null);
  for (const onMiss of ['land', 'reject', 'truncate'] as const) {
    t.equal(deadlineOf({ ...whole, onMiss }), 1250, onMiss);
    t.equal(deadlineOf({ ...parts, onMiss }), null, `${onMiss}: a late first token does not end the wait`);
  }
  t.equal(deadlineOf({ ...whole, onMiss: 'continue' }), null);
  t.end();
});
