/** Answers that end early to keep their budget, as a client sees them in every API: report, headers, log, load. */
import t from 'tap';
import type { FakeEngine } from '../fakes/engine.js';
import { namedEvents } from '../fakes/named-events.js';
import { build, events, says } from '../fakes/server.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { until } from '../support/until.js';

const landed = { at: 4, pressure: 3.25, probability: 0.00041234 };
const report = { at_token: 4, pressure: 3.25, probability: 0.000412, choices: [0] };
const budget = { 'x-latency-budget-ms': '60000' };
const messages = [{ role: 'user', content: 'Where is Paris?' }];

const completed = { status: 'completed', incomplete_details: null };
const incomplete = { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } };

/** A body for each API, and where its whole answer says that the answer is complete, or that its budget ended it. */
const APIS = [
  [
    '/v1/chat/completions',
    { messages },
    { choices: [{ finish_reason: 'stop' }] },
    { choices: [{ finish_reason: 'length' }] },
  ],
  [
    '/v1/completions',
    { prompt: 'Where is Paris?' },
    { choices: [{ finish_reason: 'stop' }] },
    { choices: [{ finish_reason: 'length' }] },
  ],
  ['/v1/responses', { input: 'Where is Paris?' }, completed, incomplete],
  [
    '/v1/messages',
    { messages, max_tokens: 50 },
    { stop_reason: 'end_turn', stop_sequence: null },
    { stop_reason: 'max_tokens', stop_sequence: null },
  ],
] as const;

const lands = (text = 'Paris is here.'): FakeEngine['script'] => says(text, { ended: { landed } });

void t.test('a forced end has the terms of a length in each API, and the report says how it landed', async (t) => {
  const server = await build(t, lands());
  for (const [path, body, , end] of APIS) {
    const response = await server.post(path, body, budget);
    const whole = (await response.json()) as { sortie: object };
    t.match(
      whole,
      { ...end, sortie: { outcome: 'landed', met: true, plan: { reason: 'deepest', landing: 'possible' } } },
      path,
    );
    t.match(whole.sortie, { landed: report }, path);
  }
});

void t.test('an end that the model was about to make is complete in the terms of each API', async (t) => {
  const own = { ...landed, probability: 0.4, isOwn: true };
  const server = await build(t, says('Paris is here.', { ended: { landed: own } }));
  for (const [path, body, end] of APIS) {
    const whole: unknown = await (await server.post(path, body, budget)).json();
    t.match(whole, { ...end, sortie: { outcome: 'landed', met: true, landed: { probability: 0.4 } } }, path);
  }
});

/** The text of a whole answer of any API. */
function textOf(body: unknown): string {
  const texts = /"(?:text|content)":"([^"]+)"/.exec(JSON.stringify(body));
  return texts?.[1] ?? '';
}

void t.test('an answer cut at its deadline goes back to its last whole sentence; a stream shows all', async (t) => {
  const script = says('Paris is here. It has a long', { end: 'deadline' });
  const server = await build(t, script);
  for (const [path, body, , end] of APIS) {
    const whole: unknown = await (await server.post(path, body, budget)).json();
    t.match(whole, { ...end, sortie: { outcome: 'landed', met: true, landed: undefined } }, path);
    t.equal(textOf(whole), 'Paris is here.', path);
  }
  const ask = async (more: object, headers: Record<string, string> = budget): Promise<unknown> =>
    (await server.post('/v1/completions', { prompt: 'x', logprobs: 0, ...more }, headers)).json();
  const { usage, choices } = (await ask({})) as {
    usage: { completion_tokens: number };
    choices: { logprobs: { tokens: string[] } }[];
  };
  t.equal(usage.completion_tokens, script().tokens.length, 'usage counts all that was generated');
  t.equal(choices[0]?.logprobs.tokens.join(''), 'Paris is here.');
  const cut = { choices: [{ text: 'Paris is here. It has a long' }], sortie: { outcome: 'cut', met: false } };
  t.match(await ask({}, { ...budget, 'x-budget-on-miss': 'truncate' }), cut, 'as its request asked');
  const sent = await events(await server.post('/v1/completions', { prompt: 'x', stream: true }, budget));
  t.match(JSON.parse(sent.at(-2) ?? ''), { choices: [{ finish_reason: 'length' }], sortie: { outcome: 'cut' } });
  server.engine.script = says('Paris is a long', { end: 'deadline' });
  t.match(await ask({}), { choices: [{ text: 'Paris is a long' }], sortie: { outcome: 'cut' } }, 'no sentence');
  server.engine.script = says('```js\nf();\ng(', { end: 'deadline' });
  t.match(await ask({}), { choices: [{ text: '```js\nf();\n```' }], sortie: { outcome: 'landed' } }, 'open code');
});

void t.test('a stream of each API ends in the same terms, with the same report', async (t) => {
  const server = await build(t, lands());
  for (const path of ['/v1/chat/completions', '/v1/completions'] as const) {
    const body = path === '/v1/completions' ? { prompt: 'x' } : { messages };
    const sent = await events(await server.post(path, { ...body, stream: true }, budget));
    const last: unknown = JSON.parse(sent.at(-2) ?? '');
    t.match(last, { choices: [{ finish_reason: 'length' }], sortie: { landed: report } }, path);
  }
  const response = namedEvents(await (await server.post('/v1/responses', { input: 'x', stream: true }, budget)).text());
  const last = response.find(({ name }) => name === 'response.incomplete');
  t.match(last?.data, { response: { ...incomplete, sortie: { landed: report } } });
  const body = { messages, max_tokens: 50, stream: true };
  const message = namedEvents(await (await server.post('/v1/messages', body, budget)).text());
  const delta = message.find(({ name }) => name === 'message_delta');
  t.match(delta?.data, { delta: { stop_reason: 'max_tokens' }, sortie: { landed: report } });
});

void t.test('an answer that ends by itself has not landed; one that is cut ends by its length', async (t) => {
  let end: 'stop' | 'deadline' = 'stop';
  const server = await build(t, () => says('Paris is', { end })());
  const ask = async (): Promise<unknown> => (await server.post('/v1/completions', { prompt: 'x' }, budget)).json();
  t.match(await ask(), {
    choices: [{ finish_reason: 'stop' }],
    sortie: { landed: undefined, outcome: 'whole', met: true },
  });
  end = 'deadline';
  t.match(await ask(), {
    choices: [{ finish_reason: 'length' }],
    sortie: { landed: undefined, outcome: 'cut', met: false },
  });
});

void t.test('of several choices the shortest landing is reported, and all that landed are named', async (t) => {
  const ends = [null, { ...landed, at: 9 }, { ...landed, at: 5, pressure: 1 }];
  const server = await build(t, ({ id }) => {
    const end = ends[Number(id.split('-')[1])];
    return { tokens: [5, 6], ...(end != null && { ended: { landed: end } }) };
  });
  const response = await server.post('/v1/completions', { prompt: 'x', n: 3 }, budget);
  const { sortie } = (await response.json()) as { sortie: { landed: unknown } };
  t.same(sortie.landed, { at_token: 5, pressure: 1, probability: 0.000412, choices: [1, 2] });
});

void t.test('an answer that its stop string ends has not landed', async (t) => {
  // The engine ends the answer before it reads that the gateway cancels it.
  const server = await build(t, lands('Paris is here'));
  const response = await server.post('/v1/completions', { prompt: 'x', stop: [' here'] }, budget);
  t.match(await response.json(), { choices: [{ text: 'Paris is' }], sortie: { landed: undefined } });
});

void t.test('the plan says the reason of its depth, and why it has no landing', async (t) => {
  const plan = { exit: 15, reason: 'load', landing: 'grammar' } as const;
  const server = await build(t, () => ({ tokens: [5], plan }));
  for (const [path, body] of APIS) {
    const { sortie } = (await (await server.post(path, body, budget)).json()) as { sortie: { plan: object } };
    t.match(sortie.plan, { exit_layer: 15, reason: 'load', landing: 'grammar' }, path);
  }
});

void t.test('the expected length is a header, of all choices together, in a stream with its first token', async (t) => {
  const server = await build(t, () => ({ tokens: [5, 5, 5], pace: 30, plan: { expectedTokens: 20.4 } }));
  for (const [path, body] of APIS) {
    for (const stream of [false, true]) {
      const response = await server.post(path, { ...body, stream }, budget);
      t.equal(response.headers.get('x-sortie-expected-tokens'), '20', path);
      await response.text();
    }
  }
  const several = await server.post('/v1/completions', { prompt: 'x', n: 3 }, budget);
  t.equal(several.headers.get('x-sortie-expected-tokens'), '61');
});

void t.test('GET /load has the answers in progress, without a key', async (t) => {
  const server = await build(t, () => ({ tokens: [5, 5, 5, 5], pace: 10_000 }), { apiKeys: ['secret'] });
  const ask = async (): Promise<unknown> => (await fetch(`${server.url}/load`)).json();
  t.same(await ask(), { server_load: 0 });
  const over = new AbortController();
  const headers = { 'content-type': 'application/json', authorization: 'Bearer secret' };
  const request = { method: 'POST', signal: over.signal, headers, body: '{"prompt":"x"}' };
  const asked = [1, 2].map(() => fetch(`${server.url}/v1/completions`, request).catch(() => null));
  await until('both run', () => server.engine.live === 2);
  t.same(await ask(), { server_load: 2 });
  over.abort();
  await Promise.all(asked);
});

void t.test('with an operations port, /load is there', async (t) => {
  const server = await build(t, undefined, { options: { opsPort: 0 } });
  t.equal((await fetch(`${server.url}/load`)).status, 404);
  t.same(await (await fetch(`${server.opsUrl}/load`)).json(), { server_load: 0 });
});

void t.test('the key, then the server say what becomes of late answers whose request does not', async (t) => {
  const key = (name: string, policy: object) => ({ ...openKey(name), policy: { ...openKey(name).policy, ...policy } });
  const withBudget = { totalMs: 400, ttftMs: null, tpotMs: null };
  const defaultBudget = { ...withBudget, onMiss: null };
  const policy = { defaultBudget, onMiss: 'truncate', minExit: null, maxExit: null } as const;
  const own = key('own', { onMiss: 'reject' });
  const nearer = key('budget', { onMiss: 'reject', defaultBudget: { ...withBudget, onMiss: 'land' } });
  const server = await build(t, undefined, { limits: { policy }, apiKeys: ['plain', own, nearer] });
  const onMiss = async (who: string, headers: Record<string, string> = {}): Promise<unknown> => {
    await server.post('/v1/completions', { prompt: 'x' }, { authorization: `Bearer ${who}`, ...headers });
    return server.engine.requests.at(-1)?.depth.budget?.onMiss;
  };
  t.equal(await onMiss('plain'), 'truncate', 'the default budget of the server');
  t.equal(await onMiss('plain', budget), 'truncate');
  t.equal(await onMiss('own'), 'reject');
  t.equal(await onMiss('own', budget), 'reject');
  t.equal(await onMiss('budget'), 'land', 'an action of the default budget is nearer');
  t.equal(await onMiss('budget', budget), 'reject', 'which counts with that budget alone');
  t.equal(await onMiss('own', { ...budget, 'x-budget-on-miss': 'continue' }), 'continue');
});

void t.test('the log line of an answer has the landing and the reason', async (t) => {
  const lines: string[] = [];
  const script: FakeEngine['script'] = says('Paris.', { ended: { landed }, plan: { reason: 'load' } });
  const server = await build(t, script, { log: (line) => lines.push(line) });
  await server.post('/v1/completions', { prompt: 'x' }, budget);
  await until('logged', () => lines.some((line) => line.includes('completion_tokens')));
  const line: unknown = JSON.parse(lines.find((each) => each.includes('completion_tokens')) ?? '');
  t.match(line, { sortie: { landed: report, plan: { reason: 'load' } } });
});
