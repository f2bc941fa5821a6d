/** Requests to an upstream model without a budget pass unchanged. */
import t from 'tap';
import { setTimeout as delay } from 'node:timers/promises';
import { openKey } from '../../src/gateway/http/keys.js';
import { events } from '../fakes/server.js';
import { answers, begin, breaks, chunk, event, fails, NO_ANSWER, type UpstreamScript } from '../fakes/upstream.js';
import { until } from '../support/until.js';
import { both } from './told.js';

const messages = [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AA==' } }] }];
const body = {
  ...{ model: 'big', messages, tools: [{ type: 'custom', custom: { name: 'x' } }], temperature: 9 },
  ...{ unknown: { a: [null] }, stop: null, seed: 3 },
};

void t.test('the upstream gets the body unchanged, under its own name and key', async (t) => {
  const { there, here } = await both(t, ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'a=b', 'x-secret': '1' });
    response.end(
      '{"id":"there", "model" : "vendor/big-1","n":1.0,"choices":[{"model":"inner","id":"7"}],"usage":null}',
    );
  });
  const response = await here.post('/v1/chat/completions?x=1', body, {
    authorization: 'Bearer client-key',
    'x-api-key': 'client-key',
    cookie: 'c=d',
    'x-request-id': 'mine',
  });
  t.equal(response.status, 200);
  t.equal(
    await response.text(),
    '{"id":"chatcmpl-mine", "model" : "big","n":1.0,"choices":[{"model":"inner","id":"7"}],"usage":null}',
    'no other byte differs',
  );
  t.equal(response.headers.get('x-request-id'), 'mine');
  t.notOk(response.headers.has('set-cookie'));
  t.notOk(response.headers.has('x-secret'));
  const [exchange] = there.exchanges;
  t.equal(exchange?.path, '/v1/chat/completions');
  t.same(exchange?.body, { ...body, model: 'vendor/big-1' });
  t.equal(exchange?.headers.authorization, 'Bearer upstream-key');
  t.notMatch(JSON.stringify(exchange?.headers), /client-key|c=d/);
  t.notOk(exchange !== undefined && 'x-latency-budget-ms' in exchange.headers);
});

void t.test('each chunk of a stream passes byte for byte', async (t) => {
  const odd =
    '{"model":"vendor/big-1","odd" :1e0,"id":"x","choices":[{"index":0,"delta":{"content":"\\u0041\u2028"}}]}';
  const { here } = await both(t, async (exchange) => {
    begin(exchange);
    exchange.response.write(`: wait\n\nevent: named\ndata: ${odd.slice(0, 9)}`);
    await delay(20);
    exchange.response.write(`${odd.slice(9)}\n\n`);
    exchange.response.end(event(chunk({}, 'stop')) + event('[DONE]'));
  });
  const response = await here.post('/v1/chat/completions', { ...body, stream: true }, { 'x-request-id': 'r' });
  t.match(response.headers.get('content-type'), 'text/event-stream');
  t.equal(
    await response.text(),
    `: wait\n\nevent: named\ndata: ${odd.replace('vendor/big-1', 'big').replace('"x"', '"chatcmpl-r"')}\n\n` +
      `${event(chunk({}, 'stop').replace('vendor/big-1', 'big').replace('chatcmpl-there', 'chatcmpl-r'))}data: [DONE]\n\n`,
  );
});

void t.test('errors keep status, body and Retry-After', async (t) => {
  for (const stream of [false, true]) {
    for (const status of [400, 401, 403, 404, 413, 422, 429, 500, 503]) {
      const text = `{"error":{"message":"no ${status}", "code":null}}`;
      const { here } = await both(t, ({ response }) => {
        response.writeHead(status, { 'content-type': 'application/json', 'retry-after': '7' }).end(text);
      });
      const response = await here.post('/v1/chat/completions', { ...body, stream });
      t.equal(response.status, status);
      t.equal(await response.text(), text);
      t.equal(response.headers.get('retry-after'), '7');
    }
  }
});

const BODIES = {
  '/v1/chat/completions': body,
  '/v1/responses': { model: 'big', input: 'Hi' },
  '/v1/messages': { model: 'big', max_tokens: 9, messages: [{ role: 'user', content: 'Hi' }] },
};
const whole = (choices: unknown): UpstreamScript => {
  return ({ response }) => response.writeHead(200).end(JSON.stringify({ id: 'a', choices }));
};

void t.test('an upstream that breaks the form of answers has failed, in all APIs', async (t) => {
  const { there, here } = await both(t, () => undefined);
  const { 'a chunk nested too deep': deepChunk, ...broken } = NO_ANSWER;
  const ofChat = { choices: whole(5), calls: whole([{ message: { tool_calls: 5 }, finish_reason: 'stop' }]) };
  for (const [path, asked] of Object.entries(BODIES)) {
    const isChat = path === '/v1/chat/completions';
    const scripts = { ...broken, 600: fails(600), 999: fails(999), ...(!isChat && ofChat) };
    for (const [name, script] of Object.entries(scripts)) {
      there.script = script;
      for (const more of [{}, { stream: true }]) {
        const response = await here.post(path, { ...asked, ...more });
        t.match(
          [response.status, await response.json()],
          [502, { error: { code: 'upstream_failed' } }],
          `${path} ${name}`,
        );
      }
    }
    there.script = deepChunk ?? begin;
    const response = await here.post(path, asked, { 'x-latency-budget-ms': '60000' });
    t.match(
      [response.status, await response.json()],
      [502, { error: { code: 'upstream_failed' } }],
      `${path} deep chunk`,
    );
  }
});

void t.test('an error that repeats the headers of its request has no key', async (t) => {
  const { there, here } = await both(t, ({ response, headers }) => {
    response.writeHead(401).end(JSON.stringify({ error: { message: headers.authorization } }));
  });
  for (const [path, asked] of Object.entries(BODIES))
    for (const stream of [false, true]) {
      const response = await here.post(path, { ...asked, stream });
      t.equal(response.status, 401);
      t.match(await response.text(), 'Bearer ***');
    }
  there.script = (exchange) => {
    begin(exchange);
    const { authorization } = exchange.headers;
    exchange.response.end(
      `: ${authorization ?? ''}\n\n${event(JSON.stringify({ error: { message: authorization } }))}`,
    );
  };
  const response = await here.post('/v1/chat/completions', { ...body, stream: true });
  t.match(await response.text(), /^: Bearer \*{3}\n\n.*"Bearer \*{3}"/);
});

void t.test('a stream ends with its last event, though the body goes on', async (t) => {
  const { here } = await both(t, (exchange) => {
    begin(exchange);
    exchange.response.write(event(chunk({ content: 'Yes.' }, 'stop')) + event('[DONE]') + event('{"late":1}'));
  });
  const parts = await events(await here.post('/v1/chat/completions', { ...body, stream: true }));
  t.equal(parts.at(-1), '[DONE]');
  t.equal(parts.length, 2);
});

void t.test('headers and events of the upstream are bounded', async (t) => {
  const { there, here } = await both(t, ({ response }) => {
    response.writeHead(200, { 'x-long': 'x'.repeat(20_000) }).end('{}');
  });
  t.equal((await here.post('/v1/chat/completions', body)).status, 502);
  there.script = (exchange) => {
    begin(exchange);
    const part = 'x'.repeat(1 << 20);
    exchange.response.write('data: ');
    for (let sent = 0; sent < 20; sent++) exchange.response.write(part);
  };
  const response = await here.post('/v1/chat/completions', { ...body, stream: true });
  t.equal(response.status, 502);
  t.match(await response.json(), { error: { code: 'upstream_failed' } });
});

void t.test('a stream that breaks ends with an error and [DONE]', async (t) => {
  const { here } = await both(t, breaks('One', null));
  const parts = await events(await here.post('/v1/chat/completions', { ...body, stream: true }));
  t.equal(parts.length, 4);
  t.match(JSON.parse(parts[2] ?? ''), { error: { code: 'upstream_failed' } });
  t.equal(parts[3], '[DONE]');
});

const USAGE = { prompt_tokens: 3, completion_tokens: 700, total_tokens: 703 };
const counts = (more: object = {}) => event(chunk({}, null, { choices: [], usage: USAGE, ...more }));
const LONG = 'x'.repeat(2800);
/** Answers of 700 tokens, with the counts of the upstream and without them. */
const CHARGED: Readonly<Record<string, string>> = {
  thoughts: event(chunk({ reasoning_content: LONG })) + event(chunk({}, 'stop')),
  arguments: event(chunk({ tool_calls: [{ index: 0, function: { arguments: LONG } }] }, 'tool_calls')),
  'an unfinished text': event(chunk({ content: LONG })),
  'counts alone': event(chunk({}, 'stop')) + counts(),
  'a whole answer': JSON.stringify({ choices: [{ message: { reasoning: LONG, content: null } }] }),
};

for (const [name, text] of Object.entries(CHARGED))
  void t.test(`a key pays for ${name}`, async (t) => {
    const limits = { requestsPerMinute: null, tokensPerMinute: 1000, requestsInFlight: null };
    const { there, here } = await both(
      t,
      (exchange) => {
        if (exchange.body.stream === true) begin(exchange);
        else exchange.response.writeHead(200, { 'content-type': 'application/json' });
        exchange.response.end(text);
      },
      { apiKeys: ['passed', 'timed'].map((key) => ({ ...openKey(key), limits })) },
    );
    const stream = text.startsWith('data:');
    for (const key of stream ? ['passed', 'timed'] : ['passed']) {
      const left = async (): Promise<number> => {
        const budget = key === 'timed' ? { 'x-latency-budget-ms': '60000' } : {};
        const headers = { authorization: `Bearer ${key}`, ...budget };
        const response = await here.post('/v1/chat/completions', { model: 'big', messages: [], stream }, headers);
        const parts = await response.text();
        t.notMatch(parts, /"choices":\[\]/);
        await until('the end of the answer', () => here.app.responses.size === 0);
        return Number(response.headers.get('x-ratelimit-remaining-tokens'));
      };
      const spent = (await left()) - (await left());
      t.ok(spent > 400 && spent <= 703, `${spent} tokens`);
    }
    if (stream) t.same(there.exchanges[0]?.body.stream_options, { include_usage: true });
  });

void t.test('a stream asks for counts, which go to clients that ask for them', async (t) => {
  const end = event(chunk({}, 'stop'));
  const { there, here } = await both(t, async (exchange) => {
    begin(exchange);
    exchange.response.write(end);
    await delay(20);
    exchange.response.end(counts({ sortie: { source: 'far' } }) + event('[DONE]'));
  });
  for (const [include_usage, budget] of [
    [true, {}],
    [false, {}],
    [true, { 'x-latency-budget-ms': '60000' }],
    [false, { 'x-latency-budget-ms': '60000' }],
  ] as const) {
    const asked = { ...body, stream: true, stream_options: { include_usage, more: 1 } };
    const parts = (await events(await here.post('/v1/chat/completions', asked, budget))).slice(0, -1);
    t.same(there.exchanges.at(-1)?.body.stream_options, { include_usage: true, more: 1 });
    const isTimed = 'x-latency-budget-ms' in budget;
    // In the form of this server each choice begins with its role.
    const chunks = parts.slice(isTimed ? 1 : 0).map((part) => JSON.parse(part) as Record<string, unknown>);
    const [last, usage, ...more] = chunks;
    t.match(last, { choices: [{ finish_reason: 'stop' }] });
    t.match(usage, include_usage ? { choices: [], usage: USAGE } : undefined);
    t.match(more, []);
    const report = isTimed ? { source: 'upstream' } : { source: 'far' };
    if (!include_usage) t.match(last?.sortie, report, 'the report of another Sortie is not lost');
  }
});

void t.test('the max_tokens of a key bounds every name of a length, and the number of answers', async (t) => {
  const key = { ...openKey('k'), policy: { ...openKey('k').policy, maxTokens: 20 } };
  const { there, here } = await both(t, answers('Paris.'), { apiKeys: [key] });
  const asks = async (fields: object) =>
    await here.ask('/v1/chat/completions', { model: 'big', messages: [], ...fields }, { authorization: 'Bearer k' });
  for (const field of ['max_tokens', 'max_completion_tokens', 'max_new_tokens', 'n_predict', 'min_tokens'])
    for (const value of [21, -1, 1.5, '9', true, [5], ...(field === 'min_tokens' ? [] : [0])])
      t.match(
        await asks({ [field]: value }),
        { status: 400, body: { error: { param: field } } },
        `${field} ${JSON.stringify(value)}`,
      );
  for (const n of [0, 1.5, '1000', 1000]) t.match(await asks({ n }), { status: 400, body: { error: { param: 'n' } } });
  t.equal(there.exchanges.length, 0, 'the upstream is not asked');
  for (const [fields, most] of [
    [{ max_tokens: null, n_predict: 20, min_tokens: 0, n: 2 }, 20],
    [{ max_tokens: 7 }, 7],
    [{ max_completion_tokens: 20 }, undefined],
  ] as const) {
    await here.post('/v1/chat/completions', { ...body, ...fields }, { authorization: 'Bearer k' });
    t.equal(there.exchanges.at(-1)?.body.max_tokens, most);
  }
  const complete = async (fields: object) =>
    await here.ask('/v1/completions', { model: 'big', ...fields }, { authorization: 'Bearer k' });
  t.match(await complete({ prompt: Array(65).fill('a') }), { status: 400, body: { error: { param: 'prompt' } } });
  t.match(await complete({ prompt: ['a', 'b'], n: 33 }), { status: 400, body: { error: { param: 'n' } } });
  await complete({ prompt: ['a', 'b'], n: 32, max_completion_tokens: 9 });
  t.match(there.exchanges.at(-1)?.body, { max_tokens: 9, n: 32 }, 'completions know no other name');
});

void t.test('a key pays for the answers to each prompt of a list', async (t) => {
  const limits = { requestsPerMinute: 100, tokensPerMinute: 1000, requestsInFlight: null };
  const usage = { prompt_tokens: 0, completion_tokens: 0 };
  const script: UpstreamScript = ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ usage }));
  };
  for (const [fields, answers] of [
    [{ prompt: [1, 2] }, 1],
    [{ prompt: [[1], [2]] }, 2],
    [{ prompt: ['a', 'b', 'c'], n: 2 }, 6],
    [{ prompt: ['a'], best_of: 3 }, 3],
    [{ prompt: ['a'], n_cmpl: 4 }, 4],
  ] as const) {
    const { here } = await both(t, script, { apiKeys: [{ ...openKey('k'), limits }] });
    const asked = { model: 'big', n_predict: 100, ...fields };
    const { status, headers } = await here.post('/v1/completions', asked, { authorization: 'Bearer k' });
    t.equal(status, 200);
    t.equal(headers.get('x-ratelimit-remaining-requests'), String(100 - answers));
    const left = Number(headers.get('x-ratelimit-remaining-tokens'));
    t.ok(left < 1000 - 100 * answers + 3 && left > 980 - 100 * answers, `${left} tokens left`);
  }
});

void t.test('keys, limits, draining and the log of the gateway hold', async (t) => {
  const log: string[] = [];
  const key = {
    ...openKey('sesame'),
    limits: { requestsPerMinute: 2, tokensPerMinute: 1000, requestsInFlight: null },
  };
  const usage = { prompt_tokens: 5, completion_tokens: 6 };
  const script: UpstreamScript = ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ id: 'a', model: 'b', usage }));
  };
  const { here } = await both(t, script, { apiKeys: [key], log: (line) => log.push(line) });
  t.equal((await here.post('/v1/chat/completions', body)).status, 401);
  const authorization = { authorization: 'Bearer sesame' };
  const first = await here.post('/v1/chat/completions', body, authorization);
  t.equal(first.status, 200);
  t.ok(first.headers.has('x-ratelimit-remaining-tokens'));
  const second = await here.post('/v1/chat/completions', body, authorization);
  t.ok(Number(second.headers.get('x-ratelimit-remaining-tokens')) > 700, 'unused tokens were given back');
  t.equal((await here.post('/v1/chat/completions', body, authorization)).status, 429);
  const line = log.map((text) => JSON.parse(text) as object).find((each) => 'sortie' in each);
  t.match(line, {
    model: 'big',
    status: 200,
    sortie: { source: 'upstream', outcome: 'whole', upstream: { status: 200, usage } },
  });
  here.context.draining = true;
  t.match(await (await here.post('/v1/chat/completions', body, authorization)).json(), { error: { code: 'draining' } });
});
