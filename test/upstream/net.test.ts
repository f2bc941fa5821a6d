/** Nets: the local model answers where an upstream does not. Each fault, with and without a stream. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { openPolicy } from '../../src/gateway/api/context.js';
import { openKey } from '../../src/gateway/http/keys.js';
import type { NetFacts } from '../../src/gateway/telemetry/upstream-metrics.js';
import type { UpstreamModel } from '../../src/gateway/upstream/upstream.js';
import type { Script } from '../fakes/engine.js';
import { build, type Overrides, ownModel, type TestServer, tokenizer } from '../fakes/server.js';
import {
  answers,
  begin,
  chunk,
  event,
  finish,
  say,
  scriptedUpstream,
  starts,
  upstream,
  type Exchange,
  type UpstreamScript,
  breaks,
  fails,
  NO_ANSWER,
  SILENT,
  IN_BAND_ERROR,
  HALF_A_CHUNK,
  FILTERED,
} from '../fakes/upstream.js';
import { movedClock } from '../support/moved-clock.js';
import { until } from '../support/until.js';
import { ask, type Told } from './told.js';

const TEXT = 'Paris is the capital. It lies on the Seine. Many people live there. The end';
const LOCAL = 'It is in France. It is large.';
const BUDGET_MS = 6000;
const SENTENCE_MS = 3000;

/** A local model that answers with a text. */
const local =
  (script: Partial<Script> = {}) =>
  (): Script => ({ tokens: tokenizer.encode(LOCAL, false), pace: 5, sentenceMs: SENTENCE_MS, ...script });

interface Netted {
  readonly here: TestServer;
  readonly outcomes: NetFacts[];
  readonly exchanges: readonly Exchange[];
}

async function netted(
  t: Test,
  script: UpstreamScript,
  answer: Partial<Script> = {},
  more: Overrides = {},
): Promise<Netted> {
  movedClock(t);
  const there = await scriptedUpstream(t, script);
  const outcomes: NetFacts[] = [];
  const here = await build(t, local(answer), {
    upstreams: [{ ...upstream, url: there.url }],
    nets: { mode: 'answer', observed: (net) => void outcomes.push(net) },
    ...more,
  });
  return { here, outcomes, exchanges: there.exchanges };
}

/** A test of a whole answer, and of a streamed one. */
function inBothWays(name: string, run: (t: Test, stream: boolean) => Promise<void>): void {
  for (const stream of [false, true]) void t.test(`${name}, ${stream ? 'streamed' : 'whole'}`, (t) => run(t, stream));
}

interface Case {
  readonly name: string;
  readonly script: UpstreamScript;
  /** Of the net that answers; null: the upstream answers, and the net does not start. */
  readonly trigger: NetFacts['trigger'];
  readonly expect?: (t: Test, told: Told) => void;
}

const CASES: readonly Case[] = [
  { name: 'whole in time', script: answers(TEXT, 5), trigger: null },
  ...Object.entries(SILENT).map(([name, script]) => ({ name, script, trigger: 'latest_start' }) as const),
  { name: 'a stall in the first sentence', script: (exchange) => starts(exchange, 'One is'), trigger: 'latest_start' },
  {
    name: 'one word each 200 ms',
    script: (exchange) => starts(exchange, 'a b c d e f g h i j k l m n o p', 200),
    trigger: 'latest_start',
  },
  ...Object.entries(NO_ANSWER).map(([name, script]) => ({ name, script, trigger: 'upstream_failed' }) as const),
  { name: 'status 500', script: fails(500), trigger: 'status' },
  { name: 'status 503', script: fails(503), trigger: 'status' },
  { name: 'a limit beyond the latest start', script: fails(429, { 'retry-after': '7' }), trigger: 'status' },
  { name: 'reset before headers', script: ({ response }) => response.destroy(), trigger: 'upstream_failed' },
  { name: 'in-band error after 200', script: breaks('', IN_BAND_ERROR), trigger: 'upstream_failed' },
  { name: 'a broken chunk in the first sentence', script: breaks('One is ', HALF_A_CHUNK), trigger: 'upstream_failed' },
  { name: 'a reset in the first sentence', script: breaks('One is ', null), trigger: 'upstream_failed' },
  {
    name: 'a stall behind a sentence',
    script: (exchange) => starts(exchange, 'One is here. Two is'),
    trigger: null,
    expect: (t, told) => {
      t.match(told.text, /^One is here\./);
      t.match(told.report, { source: 'upstream', outcome: told.isStream ? 'cut' : 'landed', net: undefined });
    },
  },
];

/** From the arrival of the request to the start of its net. */
const startedMs = ({ report }: Told): number =>
  (report as unknown as { net: { started_ms: number } } | undefined)?.net.started_ms ?? NaN;

const texts = new Map<unknown, string>([
  [null, TEXT],
  ['latest_start', LOCAL],
]);

for (const { name, script, trigger, expect } of CASES)
  inBothWays(name, async (t, stream) => {
    const { here, outcomes, exchanges } = await netted(t, script);
    const told = await ask(here, { stream }, BUDGET_MS);
    t.equal(told.status, 200);
    t.equal(told.headers.get('x-sortie-net'), 'armed');
    t.ok(told.ms <= BUDGET_MS, `${told.ms} ms`);
    if (stream) t.equal(told.last, '[DONE]');
    t.equal(told.ids.size, 1, 'one id');
    if (expect !== undefined) expect(t, told);
    else {
      t.equal(told.text, texts.get(trigger) ?? LOCAL);
      t.equal(told.finishReason, 'stop');
      t.match(told.report, { source: trigger === null ? 'upstream' : 'net', met: true });
    }
    await until('the outcome', () => outcomes.length > 0);
    t.equal(here.engine.live, 0, 'its part of the engine is free');
    t.match(outcomes, [{ upstream: 'big', result: trigger === null ? 'unused' : 'answered', trigger }]);
    if (trigger === null) return;
    if (trigger === 'latest_start') t.ok(startedMs(told) > BUDGET_MS / 4, 'it waits for the upstream');
    t.match(told.report, {
      net: { trigger, started_ms: Number, lead_ms: Number },
      plan: { exit_layer: 30 },
    });
    await until('the end of the upstream', () => exchanges.every(({ closedAt }) => closedAt !== null));
  });

void t.test('the answer has the name of the upstream, and the counts of tokens', async (t) => {
  const { here } = await netted(t, fails(500));
  // A length beyond the local context is no bar.
  const { json, headers } = await ask(here, { max_tokens: 100_000 }, BUDGET_MS);
  t.match(json, { object: 'chat.completion', model: 'big', usage: { completion_tokens: Number } });
  t.equal(headers.get('x-sortie-source'), 'net');
  const body = { model: 'big', prompt: 'Where?', sortie: { latency_budget_ms: BUDGET_MS } };
  const response = await here.post('/v1/completions', body);
  t.match(await response.json(), { object: 'text_completion', model: 'big', choices: [{ text: LOCAL }] });
});

inBothWays('refusals pass, and no net starts', async (t, stream) => {
  for (const status of [400, 422]) {
    const { here, outcomes } = await netted(t, fails(status));
    const told = await ask(here, { stream }, BUDGET_MS);
    t.match(told, { status, error: { code: 'theirs' } });
    await until('the outcome', () => outcomes.length > 0);
    t.equal(outcomes[0]?.trigger, null);
  }
  const filtered = await netted(t, breaks('I', FILTERED));
  t.match(await ask(filtered.here, { stream }, BUDGET_MS), { text: 'I', finishReason: 'content_filter' });
  const refused = await netted(t, breaks('', event('{"error":{"message":"no","code":"content_filter"}}')));
  t.match(await ask(refused.here, { stream }, BUDGET_MS), { text: '', error: { code: 'upstream_failed' } });
  const limited = await netted(t, fails(429, { 'retry-after-ms': '20' }));
  t.match(await ask(limited.here, { stream }, BUDGET_MS), { status: 429, error: { code: 'theirs' } });
});

inBothWays('usage has the tokens of both models where both had a part', async (t, stream) => {
  const counts = async (script: UpstreamScript) => {
    const options = stream ? { stream, stream_options: { include_usage: true } } : {};
    return ask((await netted(t, script)).here, options, BUDGET_MS);
  };
  const alone = (await counts(fails(500))).usage;
  const both = await counts((exchange) => starts(exchange, 'One is'));
  const { upstream: there } = both.report as unknown as { upstream: { usage: { prompt_tokens: number } } };
  t.equal(both.text, LOCAL);
  t.equal(both.usage?.prompt_tokens, (alone?.prompt_tokens ?? NaN) + there.usage.prompt_tokens);
  t.equal(both.usage?.completion_tokens, (alone?.completion_tokens ?? NaN) + 2, 'two tokens of the upstream');
  t.equal(both.usage?.estimated, true, 'whose count is an estimate');
});

/** Waits until the net of an answer has slept and runs. */
async function running({ engine }: TestServer): Promise<void> {
  await until('the net sleeps', () => engine.asleep.size === 1);
  await until('the net runs', () => engine.asleep.size === 0);
}

/** Asks an upstream that was silent four times. @param then its fifth answer */
async function afterSilence(t: Test, stream: boolean, then: UpstreamScript = () => undefined) {
  let isSilent = true;
  const script: UpstreamScript = async (exchange) => {
    if (isSilent) return;
    await delay(300);
    await then(exchange);
  };
  const { here, outcomes } = await netted(t, script);
  const silent = await Promise.all([0, 1, 2, 3].map(() => ask(here, { stream }, BUDGET_MS)));
  for (const told of silent) t.match(told.report, { net: { trigger: 'latest_start' } });
  isSilent = false;
  const told = await ask(here, { stream }, BUDGET_MS);
  await until('the outcome', () => outcomes.length === 5);
  t.match(told.report, { net: { trigger: 'expected' } });
  t.match(outcomes.at(-1), { trigger: 'expected', result: told.text === LOCAL ? 'answered' : 'overtaken' });
  return told;
}

inBothWays('a net of an upstream that is often too late starts at once, and its text waits', async (t, stream) => {
  const told = await afterSilence(t, stream);
  t.match(told, { text: LOCAL, report: { source: 'net', met: true } });
  t.ok(startedMs(told) < BUDGET_MS / 4, `it starts after ${startedMs(told)} ms`);
  t.ok(told.ms > BUDGET_MS / 3, `its text waits for the upstream, ${told.ms} ms`);
});

inBothWays('a net that started at once loses to the upstream, or answers as soon as it fails', async (t, stream) => {
  const fast = await afterSilence(t, stream, answers(TEXT));
  t.match(fast, { text: TEXT, report: { source: 'upstream' } });
  const broken = await afterSilence(t, stream, ({ response }) => void response.destroy());
  t.match(broken, { text: LOCAL, report: { source: 'net' } });
  for (const told of [fast, broken]) t.ok(told.ms < BUDGET_MS / 2, `${told.ms} ms`);
});

inBothWays('the first whole sentence of the upstream wins while both run', async (t, stream) => {
  const script: UpstreamScript = async (exchange) => {
    begin(exchange);
    await running(here);
    await say(exchange, TEXT);
    finish(exchange);
  };
  const { here, outcomes } = await netted(t, script, { prefill: 2 * BUDGET_MS });
  const told = await ask(here, { stream }, BUDGET_MS);
  t.equal(told.text, TEXT);
  t.match(told.report, { source: 'upstream', net: { trigger: 'latest_start' } });
  await until('the outcome', () => outcomes.length > 0);
  t.match(outcomes, [{ result: 'overtaken', trigger: 'latest_start' }]);
  await until('the end of the local answer', () => here.engine.live === 0);
});

inBothWays('a net that has no sentence in time is an error before the deadline', async (t, stream) => {
  const { here, outcomes } = await netted(t, () => undefined, { prefill: 2 * BUDGET_MS });
  const told = await ask(here, { stream }, BUDGET_MS);
  // Behind a comment an error is an event.
  t.match(told, { status: stream ? 200 : 504, error: { code: 'deadline_exceeded' } });
  t.match(outcomes, [{ result: 'failed', trigger: 'latest_start' }]);
  await until('the end of the local answer', () => here.engine.live === 0);
  const failed = await netted(t, fails(503), { loseAfter: 0 });
  t.match(await ask(failed.here, { stream }, BUDGET_MS), { status: 503, error: { code: 'theirs' } });
  t.match(failed.outcomes, [{ result: 'failed', trigger: 'status' }]);
});

inBothWays('a local answer that is late ends at its last whole sentence', async (t, stream) => {
  const tokens = tokenizer.encode(`It is in France. It is ${'very '.repeat(300)}`, false);
  const { here } = await netted(t, () => undefined, { tokens, pace: 40 });
  const told = await ask(here, { stream, max_tokens: 200, sortie: { commit: 'sentence' } }, BUDGET_MS);
  t.equal(told.text, 'It is in France.');
  t.match(told.report, { source: 'net', outcome: 'landed', landed: { trigger: 'deadline' } });
});

inBothWays('a net that is cut without a sentence leaves the upstream its time', async (t, stream) => {
  const late: UpstreamScript = async (exchange) => {
    await delay(BUDGET_MS - SENTENCE_MS + 500);
    await answers(TEXT)(exchange);
  };
  const cut = { tokens: tokenizer.encode('It is', false), end: 'deadline' } as const;
  const { here } = await netted(t, late, cut);
  t.match(await ask(here, { stream }, BUDGET_MS), { text: TEXT, report: { source: 'upstream' } });
  const kept = await netted(t, late, { ...cut, tokens: tokenizer.encode('It is in France. It is', false) });
  t.match(await ask(kept.here, { stream }, BUDGET_MS), { report: { source: 'net' } }, 'with a sentence it answers');
  const silent = await netted(t, () => undefined, cut);
  t.match(await ask(silent.here, { stream }, BUDGET_MS), { text: '', error: { code: 'deadline_exceeded' } });
});

const JSON_TEXT = '{"city": "Paris. It is large."}';
const asJson = { response_format: { type: 'json_object' }, max_tokens: 64 };
const ofJson = tokenizer.encode(JSON_TEXT, false);

inBothWays('JSON is that of one model, and whole', async (t, stream) => {
  const asks = async (script: UpstreamScript, pace = 5) => {
    const { here, outcomes } = await netted(t, script, { tokens: ofJson, pace });
    return { told: await ask(here, { ...asJson, stream }, BUDGET_MS), outcomes };
  };
  for (const script of [
    () => undefined,
    (exchange: Exchange) => starts(exchange, '{"city": "Rome. It is old. It'),
    fails(503),
  ])
    t.match((await asks(script)).told, { status: 200, text: JSON_TEXT, report: { source: 'net' } });
  t.match((await asks(answers(JSON_TEXT, 30))).told, { text: JSON_TEXT, report: { source: 'upstream' } });
  const slow = await asks(() => undefined, SENTENCE_MS);
  t.match(slow.told, { text: '', error: { code: 'deadline_exceeded' } }, 'a net without its end is an error');
  t.match(slow.outcomes, [{ result: 'failed', trigger: 'latest_start' }]);
});

/** Says a part of each choice, and ends the named ones. */
const choices =
  (texts: readonly string[], ended: readonly number[], isOver = false): UpstreamScript =>
  async (exchange) => {
    begin(exchange);
    const { response } = exchange;
    const say = (index: number, delta: object, finish_reason: string | null = null): void =>
      void response.write(event(chunk({}, null, { choices: [{ index, delta, finish_reason }] })));
    for (const [index, content] of texts.entries()) say(index, { role: 'assistant', content });
    for (const index of ended) say(index, {}, 'stop');
    if (isOver) response.end(event('[DONE]'));
    else await delay(BUDGET_MS);
  };

inBothWays('several choices are those of one model', async (t, stream) => {
  const body = { n: 2, max_tokens: 64, stream };
  for (const script of [() => undefined, choices([TEXT, 'One'], [0]), fails(503)]) {
    const { here, outcomes } = await netted(t, script);
    const told = await ask(here, body, BUDGET_MS);
    t.match(told, { status: 200, choices: [LOCAL, LOCAL], report: { source: 'net' } });
    t.match(outcomes, [{ result: 'answered' }]);
    t.equal(here.engine.live, 0, 'both parts are given back');
  }
  const whole = await netted(t, choices(['One.', 'Two.'], [1, 0], true));
  const told = await ask(whole.here, body, BUDGET_MS);
  t.match(told, { choices: ['One.', 'Two.'], report: { source: 'upstream', met: true } });
  const fewer = await netted(t, choices(['One.'], [0], true));
  t.match(await ask(fewer.here, body, BUDGET_MS), { choices: ['One.'], report: { source: 'upstream' } });
  const half = await netted(t, choices([TEXT, 'One'], [0]));
  const alone = await ask(half.here, { ...body, sortie: { net: 'land' } }, 1000);
  t.match(alone.error, { code: 'deadline_exceeded' }, 'one whole choice is no answer');
});

void t.test('an engine that is lost ends its nets', async (t) => {
  const { here, outcomes } = await netted(t, () => undefined);
  const asked = ask(here, {}, SENTENCE_MS + 500);
  await until('the net', () => here.engine.asleep.size === 1);
  here.engine.die();
  t.match(await asked, { status: 504, error: { code: 'deadline_exceeded' } });
  t.match(outcomes, [{ result: 'none', trigger: null }]);
  const woken = await netted(t, () => undefined, { prefill: BUDGET_MS });
  const failing = ask(woken.here, {}, SENTENCE_MS + 500);
  await running(woken.here);
  woken.here.engine.die();
  t.match(await failing, { status: 504 });
  t.match(woken.outcomes, [{ result: 'failed', trigger: 'latest_start' }]);
});

void t.test('a client that leaves starts no net', async (t) => {
  const { here, outcomes } = await netted(t, () => undefined);
  const leaving = new AbortController();
  ask(here, {}, BUDGET_MS, {}, leaving.signal).catch(() => undefined);
  await until('the net', () => here.engine.asleep.size === 1);
  leaving.abort();
  await until('the outcome', () => outcomes.length > 0);
  t.match(outcomes, [{ result: 'cancelled', trigger: null }]);
  await until('the end of the net', () => here.engine.live === 0);
});

void t.test('an answer without a net says why', async (t) => {
  const messages = [
    { role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } }] },
  ];
  const long = [{ role: 'user', content: 'word '.repeat(400) }];
  const cases: [string, object, Record<string, string>?][] = [
    ['functions', { functions: [{ name: 'f' }] }],
    ['grammar', { guided_json: {} }],
    ['unsupported', { messages }],
    ['context', { messages: long }],
    ['off', { sortie: { net: 'land' } }],
    ['off', {}, { 'x-net': 'land' }],
    ['on_miss', { sortie: { budget_on_miss: 'truncate' } }],
  ];
  const { here } = await netted(t, answers(TEXT, 30));
  for (const [reason, body, headers] of cases) {
    const told = await ask(here, body, BUDGET_MS, headers);
    t.match([told.headers.get('x-sortie-net'), told.headers.get('x-sortie-net-reason')], ['none', reason]);
  }
  const short = await ask(here, {}, SENTENCE_MS - 100);
  t.equal(short.headers.get('x-sortie-net-reason'), 'budget');
  const wrong = await ask(here, {}, BUDGET_MS, { 'x-net': 'maybe' });
  t.match(wrong, { status: 400, error: { code: 'invalid_value' } });
  const off = await ask(here, {}, 300, { 'x-net': 'off' });
  t.equal(off.text, TEXT, 'off is as late as the upstream');
  here.engine.ready = null;
  const loading = await ask(here, {}, BUDGET_MS);
  t.equal(loading.headers.get('x-sortie-net-reason'), 'not_ready');
});

void t.test('the net of a request: its own, else that of its key, of its model, of the server', async (t) => {
  movedClock(t);
  const there = await scriptedUpstream(t, answers(TEXT));
  const { defaults } = ownModel({ ...upstream, url: there.url });
  const landing = {
    name: 'landing',
    upstream: { ...upstream, url: there.url },
    defaults: { ...defaults, net: 'land' },
  };
  const keyOf = (key: string, policy: object) => ({ ...openKey(key), policy: { ...openPolicy, ...policy } });
  for (const [model, key, asked, net] of [
    ['big', 'plain', null, 'armed'],
    ['landing', 'plain', null, 'none'],
    ['landing', 'answers', null, 'armed'],
    ['big', 'lands', null, 'none'],
    ['big', 'lands', 'answer', 'armed'],
  ] as const) {
    // Each has a server of its own: the net of one may still be booked under the next one.
    const here = await build(t, local(), {
      upstreams: [{ ...upstream, url: there.url }],
      upstreamModels: [landing as UpstreamModel],
      nets: { mode: 'answer', observed: () => undefined },
      apiKeys: ['plain', keyOf('answers', { net: 'answer' }), keyOf('lands', { net: 'land' })],
    });
    const headers = { authorization: `Bearer ${key}`, ...(asked !== null && { 'x-net': asked }) };
    const told = await ask(here, { model }, BUDGET_MS, headers);
    t.equal(told.headers.get('x-sortie-net'), net, [model, key, asked].join(' '));
  }
});

void t.test('without a promise the local model tries where the upstream fails', async (t) => {
  for (const script of [fails(500), fails(429), ({ response }: Exchange) => void response.destroy()]) {
    const { here, outcomes } = await netted(t, script);
    const told = await ask(here, {}, SENTENCE_MS - 100);
    t.match(told, { status: 200, text: LOCAL });
    t.same([told.headers.get('x-sortie-net'), told.headers.get('x-sortie-net-reason')], ['none', 'budget']);
    t.notOk(here.engine.requests.at(-1)?.isNet, 'it leaves promises their time');
    await until('the outcome', () => outcomes.length > 0);
    t.match(outcomes.at(-1), { result: 'answered' });
  }
  const refused = await netted(t, fails(503));
  refused.here.engine.script = () => ({ tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } });
  t.match(await ask(refused.here, {}, SENTENCE_MS - 100), { status: 503 }, 'else its own error passes');
});

void t.test("one key's 5xx and lost connections send no other key to the local model", async (t) => {
  const script: UpstreamScript = (exchange) => {
    if (exchange.text.includes('lose')) exchange.response.destroy();
    else void (exchange.text.includes('fail') ? fails(500) : answers(TEXT))(exchange);
  };
  const { here } = await netted(t, script, {}, { apiKeys: ['bad', 'good'] });
  const asks = (key: string, user: string) =>
    ask(here, { user }, BUDGET_MS, { authorization: `Bearer ${key}` }).then(({ text }) => text);
  for (const user of ['fail', 'lose', 'fail', 'lose', 'fail', 'lose']) t.equal(await asks('bad', user), LOCAL);
  for (let i = 0; i < 3; i += 1) t.equal(await asks('good', ''), TEXT);
  t.equal(await asks('bad', ''), LOCAL, 'its own breaker is open');
});

void t.test('a key pays the tokens of the answer that it gets', async (t) => {
  const log: string[] = [];
  const { here } = await netted(t, fails(500), {}, { log: (line) => log.push(line) });
  await ask(here, {}, BUDGET_MS);
  const line = log.map((text) => JSON.parse(text) as object).find((each) => 'sortie' in each);
  t.match(line, { status: 200, sortie: { source: 'net', upstream: { status: 500 } }, completion_tokens: Number });
});
