import t from 'tap';
import { ChatBody } from '../../src/gateway/api/endpoints/chat-completions/chat-body.js';
import { CompletionBody } from '../../src/gateway/api/endpoints/completions.js';
import { DetokenizeBody } from '../../src/gateway/api/endpoints/detokenize.js';
import { TokenizeBody } from '../../src/gateway/api/endpoints/tokenize.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { READY } from '../fakes/engine.js';
import { asText, nested } from '../fakes/nested.js';
import { build, events, exchange, says } from '../fakes/server.js';
import { until } from '../support/until.js';

interface ErrorAnswer {
  error: { message: string; type: string; param: string | null; code: string | null; [extra: string]: unknown };
}

const messages = [{ role: 'user', content: 'Hi' }];

/** A format with this schema, under a name. */
const formatOf = (schema: unknown) => ({ type: 'json_schema', json_schema: { name: 'x', schema } });

/** A bias for each of `count` tokens. */
const biased = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, id) => [id, 1]));

void t.test('a body nested too deep is a 400', async (t) => {
  const server = await build(t);
  const call = (text: string) => ({ id: 'a', type: 'function', function: { name: 'f', arguments: text } });
  const endpoints = [
    ['/v1/completions', CompletionBody, { prompt: 'Hello' }],
    ['/v1/chat/completions', ChatBody, { messages }],
    ['/tokenize', TokenizeBody, { prompt: 'Hello' }],
    ['/detokenize', DetokenizeBody, { tokens: [1] }],
  ] as const;
  for (const [path, { properties }, base] of endpoints) {
    const within = (value: unknown): Record<string, unknown[]> => ({
      messages: [
        [{ role: value, content: 'x' }],
        [{ role: 'user', content: value }],
        [{ role: 'user', content: [{ type: 'text', text: value }] }],
        [{ role: 'assistant', tool_calls: [{ ...call('{}'), function: { name: 'f', arguments: value } }] }],
        [{ role: 'user', content: 'x', unknown: value }],
      ],
      tools: [
        { type: 'function', function: { name: 'f', parameters: value } },
        { type: 'function', function: { name: 'f', parameters: { type: value } } },
        { type: 'function', function: { name: 'f', parameters: { properties: { a: { enum: [value] } } } } },
      ].map((tool) => [tool]),
      response_format: [{ type: value }, formatOf(value), formatOf({ enum: [value] })],
      sortie: [{ exit_layer: value }, { unknown: value }],
      stream_options: [{ include_usage: value }],
      logit_bias: [{ '5': value }],
      prediction: [{ type: 'content', content: value }],
      stop: [[value]],
      prompt: [[value], [[1], value]],
      tokens: [[value]],
    });
    for (const kind of ['arrays', 'objects'] as const) {
      const deep = await server.post(path, asText({ ...base, unknown: nested(20_000, kind) }));
      t.match(await deep.json(), {
        error: { code: 'invalid_value', message: 'The body must be nested at most 100 deep.' },
      });
      // Other checks may reject values below the limit.
      for (const field of [...Object.keys(properties), 'suffix', 'unknown'])
        for (const value of [nested(90, kind), ...(within(nested(90, kind))[field] ?? [])]) {
          const response = await server.post(path, asText({ ...base, [field]: value }));
          t.ok(response.status < 500, `${path} ${field} ${JSON.stringify(value)}`);
          await response.text();
        }
      const list = await server.post(path, asText(nested(50_000, kind)));
      t.equal(list.status, 400, `${path}: the body itself`);
    }
  }
});

void t.test('arguments of a call are text, and their nesting limit is that of the body', async (t) => {
  const server = await build(t);
  const ask = (path: string, depth: number) => {
    const text = `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
    const call = { id: 'a', type: 'function', function: { name: 'f', arguments: text } };
    return server.post(path, { messages: [...messages, { role: 'assistant', tool_calls: [call] }], max_tokens: 1 });
  };
  for (const path of ['/v1/chat/completions', '/tokenize']) {
    const param = 'messages[1].tool_calls[0].function.arguments';
    for (const depth of [101, 20_000, 400_000]) {
      const response = await ask(path, depth);
      t.equal(response.status, 400, `${path}, ${depth} levels`);
      t.match(await response.json(), { error: { code: 'invalid_value', param, message: /at most 100 deep/ } });
    }
    const deepest = await ask(path, 100);
    t.notMatch(await deepest.text(), /internal_error|deep(?!est)/, 'the deepest value that is accepted');
  }
});

void t.test('a misspelt name in the sortie object is rejected with the list of valid names', async (t) => {
  const server = await build(t);
  const ask = async (sortie: object) => server.post('/v1/completions', { prompt: 'Hello', sortie });
  const error = { code: 'unsupported_parameter', param: 'sortie.exit' };
  const response = await ask({ exit: 15 });
  t.equal(response.status, 400);
  const message = /^sortie\.exit is not .* sortie takes .*exit_layer,/;
  t.match(await response.json(), { error: { ...error, message } });
  t.equal((await ask({ exit: null })).status, 200, 'null asks for nothing');
  t.ok((await (await ask({ ['x'.repeat(100_000)]: 1 })).text()).length < 1000, 'the error shortens a long name');
});

void t.test('requests of benchmark tools are accepted unchanged', async (t) => {
  const server = await build(t, says('one two three'));
  const both = { model: 'fake', max_tokens: 8, stop: null, ignore_eos: true, stream: true };
  const vllm = {
    ...{ ...both, prompt: 'Hi', best_of: 1, temperature: 0, repetition_penalty: 1.0, logprobs: null },
    stream_options: { include_usage: true },
  };
  const guidellm = {
    ...{ ...both, messages: [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }], max_completion_tokens: 8 },
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  for (const [path, ask] of Object.entries({ '/v1/completions': vllm, '/v1/chat/completions': guidellm })) {
    const answer = await server.post(path, ask);
    t.equal(answer.status, 200, path);
    const chunks = await events(answer);
    t.match(JSON.parse(chunks.at(-2) ?? ''), { choices: [], usage: { completion_tokens: 3 } });
    t.same(server.engine.requests.at(-1)?.stopTokens, [], 'ignore_eos');
  }
});

void t.test('a server fault is a 500 without stack or path, streamed or not', async (t) => {
  const server = await build(t);
  server.engine.generate = () => {
    throw new Error('cannot read /srv/secret/file.json');
  };
  for (const stream of [false, true]) {
    const response = await server.post('/v1/completions', { prompt: 'Hi', stream });
    t.equal(response.status, 500);
    const text = await response.text();
    t.match(JSON.parse(text), { error: { type: 'server_error', code: 'internal_error', param: null } });
    t.notMatch(text, /secret|\.js|at /);
  }
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /^sortie_request_failure_total\{reason="internal",[^}]*\} 2$/m);
  t.equal(server.context.api.metrics.live, 0, 'the metrics do not wait for a sequence that the engine never got');
});

void t.test(
  'the fault counts of routes with a body start at 0, so that the first fault shows as an increase',
  async (t) => {
    const server = await build(t);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    for (const route of ['/v1/completions', '/v1/chat/completions', '/tokenize']) {
      const labels = `method="POST",route="${route}",status="500"`;
      t.match(metrics, new RegExp(`^sortie_http_requests_total\\{${labels},[^}]*\\} 0$`, 'm'), route);
    }
  },
);

void t.test('a fault mid-stream ends that answer and nothing else', async (t) => {
  const lines: string[] = [];
  const server = await build(t, says('one two three', { pace: 5 }), { log: (line) => lines.push(line) });
  const generate = server.engine.generate.bind(server.engine);
  // Simulates a bug in the code that reads log-probabilities.
  const logprobs = {
    logprob: 0,
    get top(): never {
      throw new Error('a bug');
    },
  };
  server.engine.generate = (request) => {
    const answer = generate(request);
    const add = answer.add.bind(answer);
    answer.add = (event, isLast) => {
      const isFaulty = event.type === 'token' && request.sequences[0]?.maxTokens === 13;
      add(isFaulty ? { ...event, event: { ...event.event, logprobs } } : event, isLast);
    };
    return answer;
  };
  const ask = (max_tokens: number, stream: boolean) =>
    server.post('/v1/completions', { prompt: 'Hi', max_tokens, stream, logprobs: 1 });
  const fine = ask(12, true);
  for (const stream of [false, true]) t.match(await (await ask(13, stream)).text(), /"code":"internal_error"/);
  t.match(await (await fine).text(), /\[DONE\]/);
  t.match(lines.join(''), /"fault"/, 'the log has the fault');
  await until('idle', () => server.engine.live === 0);
  t.equal(server.context.api.metrics.live, 0);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /^sortie_request_failure_total\{reason="internal",[^}]*\} 2$/m);
  t.match(metrics, /^sortie_request_success_total\{finished_reason="abort",[^}]*\} 0$/m);
});

void t.test('a model without a chat template names the endpoint to use instead', async (t) => {
  const server = await build(t, undefined, { model: { chat: null } });
  const response = await server.post('/v1/chat/completions', { messages });
  t.equal(response.status, 400);
  const error = { code: 'unsupported_parameter', param: 'messages', message: /use \/v1\/completions/ };
  t.match(await response.json(), { error });
  t.equal((await server.post('/v1/completions', { prompt: 'Hi' })).status, 200);
});

void t.test('context_length_exceeded has its code, and a huge prompt is rejected without tokenizing it', async (t) => {
  const server = await build(t);
  for (const prompt of ['word '.repeat(300), 'x'.repeat(900_000)]) {
    const response = await server.post('/v1/completions', { prompt });
    t.equal(response.status, 400);
    const { error } = (await response.json()) as ErrorAnswer;
    t.equal(error.code, 'context_length_exceeded');
    t.match(error.message, /^This model's maximum context length is 256 tokens/, 'the words that clients recognize');
  }
});

void t.test('one choice may bias every token; each of eight choices may bias an eighth', async (t) => {
  const server = await build(t, says('x'));
  for (const fields of [{ logit_bias: biased(49_152) }, { logit_bias: biased(6144), n: 8 }])
    t.equal((await server.post('/v1/completions', { prompt: 'x', ...fields })).status, 200);
});

void t.test('a body has at most a thousand fields, known or not', async (t) => {
  const server = await build(t, says('x'));
  const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`x${i}`, 1]));
  t.equal((await server.post('/v1/completions', { prompt: 'x', ...fields(999) })).status, 200);
  const response = await server.post('/v1/completions', { prompt: 'x', ...fields(1000) });
  t.equal(response.status, 400);
  const message = 'The body must have at most 1000 fields, got 1001.';
  t.match(await response.json(), { error: { code: 'invalid_value', param: null, message } });
});

void t.test('messages that cannot fit are rejected before they are rendered', async (t) => {
  const chat = new ChatTemplate("{{ raise_exception('rendered') }}", {});
  const server = await build(t, undefined, { model: { chat } });
  const body = (length: number, content: string) => ({
    messages: Array.from({ length }, () => ({ role: 'user', content })),
  });
  const code = async (path: string, fields: object): Promise<unknown> =>
    ((await (await server.post(path, fields)).json()) as ErrorAnswer).error.code;
  for (const path of ['/v1/chat/completions', '/tokenize']) {
    t.equal(await code(path, body(257, '')), 'context_length_exceeded', path);
    t.equal(await code(path, body(4, 'x'.repeat(200_000))), 'context_length_exceeded', path);
    t.equal(await code(path, body(256, 'x')), 'invalid_value', `${path}: these may fit`);
  }
});

void t.test('calls and tools that cannot fit are rejected before they are rendered', async (t) => {
  const chat = new ChatTemplate("{{ raise_exception('rendered') }}", {});
  const server = await build(t, undefined, { model: { chat } });
  const code = async (path: string, fields: object): Promise<unknown> =>
    ((await (await server.post(path, fields)).json()) as ErrorAnswer).error.code;
  const call = (args: string, id: string) => ({ id, type: 'function', function: { name: 'f', arguments: args } });
  const calls = (count: number, args: string) => ({
    messages: [
      { role: 'user', content: 'x' },
      { role: 'assistant', tool_calls: Array.from({ length: count }, (_, i) => call(args, String(i))) },
    ],
  });
  const tool = (length: number) => ({
    messages: [{ role: 'user', content: 'x' }],
    tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', required: zeros(length) } } }],
  });
  const zeros = (length: number): number[] => Array.from({ length }, () => 0);
  for (const path of ['/v1/chat/completions', '/tokenize']) {
    for (const [name, fields] of Object.entries({
      calls: calls(100, '{}'),
      items: calls(1, JSON.stringify({ a: zeros(300) })),
      members: calls(1, JSON.stringify(Object.fromEntries(zeros(300).map((zero, i) => [`k${i}`, zero])))),
      schema: tool(300),
    }))
      t.equal(await code(path, fields), 'context_length_exceeded', `${path}: ${name}`);
    for (const [name, fields] of Object.entries({ calls: calls(2, '{"a": [0]}'), tool: tool(100) }))
      t.equal(await code(path, fields), 'invalid_value', `${path}: ${name} that may fit`);
  }
});

void t.test('facts beside a status: methods, encodings, a request that runs no hook', async (t) => {
  const server = await build(t, says('x'));
  const allowed = [
    ['GET', '/v1/completions', 'POST'],
    ['DELETE', '/v1/models/fake', 'GET, HEAD'],
    ['PROPFIND', '/v1/models/fake', 'GET, HEAD'],
  ] as const;
  for (const [method, path, allow] of allowed) {
    const response = await fetch(server.url + path, { method });
    t.equal(response.status, 405, method);
    t.equal(response.headers.get('allow'), allow);
  }
  for (const [encoding, status] of Object.entries({ gzip: 415, identity: 200, Identity: 200 })) {
    const response = await server.post('/v1/completions', { prompt: 'x' }, { 'content-encoding': encoding });
    t.equal(response.status, status, encoding);
  }
  for (const [body, code] of Object.entries({ '': 'invalid_json', '[1]': 'invalid_value' }))
    t.match(await (await server.post('/v1/completions', body)).json(), { error: { code } });
  const unread = await fetch(`${server.url}/v1/models/%zz`);
  t.match(await unread.json(), { error: { code: 'bad_request' } });
  t.equal(unread.headers.get('x-content-type-options'), 'nosniff');
  const count = 'sortie_http_requests_total{method="GET",route="unknown",status="400"';
  t.ok((await (await fetch(`${server.url}/metrics`)).text()).includes(count), 'a request that runs no hook is counted');
});

void t.test('an unknown path is reported before the body is checked', async (t) => {
  const server = await build(t, says('x'), { options: { maxBody: 2048 } });
  const form = new FormData();
  form.set('file', new Blob(['x'.repeat(100)]), 'speech.mp3');
  const bodies: [string, RequestInit][] = [
    ['a form', { body: form }],
    ['no body', {}],
    ['a large one', { body: '"' + 'x'.repeat(3000) + '"', headers: { 'content-type': 'application/json' } }],
    ['half a JSON', { body: '{', headers: { 'content-type': 'application/json' } }],
    ['compressed', { body: 'x', headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } }],
  ];
  for (const [name, init] of bodies) {
    await t.test(name, async (t) => {
      const unknown = await fetch(`${server.url}/v1/audio/transcriptions`, { method: 'POST', ...init });
      t.equal(unknown.status, 404, name);
      t.equal(unknown.headers.get('x-content-type-options'), 'nosniff');
      t.match(await unknown.json(), {
        error: { code: 'route_not_found', message: /POST "\/v1\/audio\/transcriptions"/ },
      });
      const known = await fetch(`${server.url}/v1/models`, { method: 'POST', ...init });
      t.equal(known.status, 405, name);
      t.match(await known.json(), { error: { code: 'method_not_allowed' } });
    });
  }
});

void t.test('a rejected body keeps its connection open, so that the response arrives', async (t) => {
  const server = await build(t, says('x'), { options: { maxBody: 2048 } });
  const post = (type: string, body: string, more = ''): string =>
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\n${more}\r\n${body}`;
  const large = 'x'.repeat(500_000);
  const sized = `Content-Length: ${large.length}\r\n`;
  const chunked = `${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`;
  const last = 'GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const requests: [string, number][] = [
    [post('application/json', large, sized), 413],
    [post('application/json', chunked, 'Transfer-Encoding: chunked\r\n'), 413],
    [post('application/octet-stream', large, sized), 415],
    [post('application/octet-stream', chunked, 'Transfer-Encoding: chunked\r\n'), 415],
    [post('application/json', '{', 'Content-Length: 1\r\n'), 400],
  ];
  for (const [request, status] of requests) {
    const text = await exchange(server.port, request + last);
    const statuses = [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, code]) => Number(code));
    t.strictSame(statuses, [status, 200], `${status}, the request after it gets its response`);
  }
});

void t.test('null for an optional field equals a missing field, at any depth', async (t) => {
  const server = await build(t);
  const again = { refusal: null, annotations: null, audio: null, function_call: null, tool_calls: null };
  const schema = { enum: [null, 'x'] };
  const json_schema = { name: 'n', description: null, strict: null, schema };
  const response_format = { type: 'json_schema', json_schema };
  const response = await server.post('/v1/chat/completions', {
    messages: [
      { role: 'system', content: 'x', name: null },
      ...messages,
      { role: 'assistant', content: [{ type: 'text', text: 'Yes?' }], ...again },
      ...messages,
    ],
    response_format,
    sortie: { latency_budget_ms: null },
    max_completion_tokens: null,
    tools: null,
  });
  t.equal(response.status, 200);
  t.match(server.engine.requests[0]?.grammar, { schema: JSON.stringify(schema) }, 'nulls of the schema itself stay');
  const needed = await server.post('/v1/chat/completions', { messages: null });
  const error = { message: /^messages must be .*, got null\.$/ };
  t.match(await needed.json(), { error }, 'null for a required field counts as present');
});

void t.test('bytes that are not a request get a status and a closed socket', async (t) => {
  const server = await build(t);
  t.match(await exchange(server.port, 'NONSENSE\r\n\r\n'), /^HTTP\/1\.1 400 /);
  const huge = `GET /health HTTP/1.1\r\nHost: x\r\nX-Big: ${'a'.repeat(40_000)}\r\n\r\n`;
  t.match(await exchange(server.port, huge), /^HTTP\/1\.1 431 /);
  t.equal(await exchange(server.port, 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n'), '');
  t.match(await exchange(server.port, 'GET /health HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /, 'without Host');
  t.match(await exchange(server.port, 'GET /health HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200 .*"ok"/s);
});

void t.test('an infeasible budget is a 503 that names the smallest accepted budget', async (t) => {
  const server = await build(t, () => ({ tokens: [], reject: { reason: 'budget_infeasible', leastFeasibleMs: 41.2 } }));
  const headers = { 'x-latency-budget-ms': '5', 'x-budget-on-miss': 'reject' };
  const response = await server.post('/v1/chat/completions', { messages }, headers);
  t.equal(response.status, 503);
  t.match(await response.json(), {
    error: {
      code: 'budget_infeasible',
      message: 'No exit can meet the latency budget; the smallest budget accepted at this moment is 42 ms.',
      least_feasible_budget_ms: 42,
    },
  });
});

void t.test('a rejection without planning time names no budget, and says so', async (t) => {
  const reject = { reason: 'budget_infeasible', leastFeasibleMs: null, isUnsought: true } as const;
  const server = await build(t, () => ({ tokens: [], reject }));
  const headers = { 'x-latency-budget-ms': '5', 'x-budget-on-miss': 'reject' };
  const response = await server.post('/v1/chat/completions', { messages }, headers);
  t.equal(response.status, 503);
  const message =
    'No exit can meet the latency budget; too many requests are rejected at once to name one that it can.';
  t.match(await response.json(), { error: { message, least_feasible_budget_ms: null, outcome: 'refused' } });
});

void t.test('one rejected choice cancels its siblings', async (t) => {
  let count = 0;
  const server = await build(t, () =>
    ++count === 2
      ? { tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }
      : { tokens: [5], delay: 20 },
  );
  const response = await server.post('/v1/chat/completions', { messages, n: 3 });
  t.equal(response.status, 429);
  t.equal(server.engine.cancelled.length, 2);
});

void t.test(
  'an engine lost mid-stream ends the answer with an error body, or with an error event and [DONE]',
  async (t) => {
    const server = await build(t, says('one two three', { loseAfter: 2, pace: 1 }));
    const whole = await server.post('/v1/chat/completions', { messages });
    t.equal(whole.status, 502);
    t.equal(whole.headers.get('retry-after'), '2');
    const streamed = await events(await server.post('/v1/chat/completions', { messages, stream: true }));
    t.equal(streamed.at(-1), '[DONE]');
    t.match(JSON.parse(streamed.at(-2) ?? ''), { error: { type: 'unavailable_error', code: 'engine_lost' } });
  },
);

void t.test('an engine that is not ready is a 503; liveness stays up', async (t) => {
  const server = await build(t);
  server.engine.ready = null;
  for (const path of ['/v1/models', '/health/ready', '/v2/health/ready', '/props']) {
    t.equal((await fetch(server.url + path)).status, 503, path);
  }
  const response = await server.post('/v1/chat/completions', { messages });
  t.equal(response.headers.get('retry-after'), '2');
  t.match(await response.json(), { error: { type: 'unavailable_error', code: 'loading' } });
  t.equal((await fetch(`${server.url}/health`)).status, 200);
  t.equal((await fetch(`${server.url}/v2/health/live`)).status, 200);
});

void t.test('an engine that exits before it gets a request leaves no sequence behind', async (t) => {
  const server = await build(t);
  for (let most = 0; most < 5; most++) {
    // Within one turn of the event loop the value is constant, as with the real client.
    let turns = 0;
    let isLooked = false;
    const get = (): typeof READY | null => {
      if (!isLooked) turns++;
      isLooked = true;
      queueMicrotask(() => (isLooked = false));
      return turns <= most ? READY : null;
    };
    Object.defineProperty(server.engine, 'ready', { configurable: true, get, set: () => undefined });
    for (const stream of [false, true]) {
      turns = 0;
      const response = await server.post('/v1/chat/completions', { messages, stream });
      t.ok([200, 503].includes(response.status), `${response.status} when it is there for ${most} turns`);
      await response.text();
      await until('idle', () => server.engine.live === 0);
      t.equal(server.context.api.metrics.live, 0, 'a drain would wait for a leftover');
    }
  }
});

void t.test('the error on malformed JSON names the fault', async (t) => {
  const server = await build(t, says('x'));
  const wrong: [string, RegExp][] = [
    ['{"model": "m",\n "prompt": "a"\n "n": 2}', /^The body is not valid JSON: Expected .* in JSON at position 31/],
    ['{"prompt": it}', /^The body is not valid JSON: Unexpected token 'i', .*\{"prompt": it\}/],
    ['{"prompt":', /^The body is not valid JSON: Unexpected end of JSON input\.$/],
    ['{"prompt": "a", "__proto__": {}}', /^The body has a key named __proto__, /],
    ['{"a": {"constructor": {"prototype": 1}}}', /^The body has a key named __proto__, or prototype within /],
    ['', /^The body is empty/],
  ];
  for (const [body, message] of wrong) {
    await t.test(body || 'no body', async (t) => {
      const { error } = (await (await server.post('/v1/completions', body)).json()) as { error: { message: string } };
      t.match(error, { code: 'invalid_json', message });
    });
  }
});
