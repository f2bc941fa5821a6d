/**
 * Provokes every code of the table in src/gateway/api/errors.ts over a connection. A code without an entry here does not
 * compile.
 */
import t, { type Test } from 'tap';
import { ERRORS, type ErrorCode } from '../../src/gateway/api/errors.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';
import { build, exchange, says, type Overrides, type Asked, type TestServer } from '../fakes/server.js';
import { type FakeEngine, READY } from '../fakes/engine.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { until } from '../support/until.js';

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

type Provocation = (t: Test, stream: boolean) => Promise<Answer>;

async function answerOf(response: Response): Promise<Answer> {
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Parses a response as it came from the socket. */
function parsed(text: string): Answer {
  const [head = '', body = ''] = text.split('\r\n\r\n');
  const [status = '', ...lines] = head.split('\r\n');
  return {
    status: Number(status.split(' ')[1]),
    headers: new Headers(lines.map((line): [string, string] => [line.split(': ')[0] ?? '', line.split(': ')[1] ?? ''])),
    text: body,
  };
}

interface Ask {
  readonly path?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly script?: FakeEngine['script'];
  readonly overrides?: Overrides;
  /** Runs before the request. */
  readonly first?: (server: TestServer) => unknown;
}

/** One request, streamed or not. Both get a plain error before the first token. */
function post({ path = '/v1/completions', body = {}, headers, script, overrides, first }: Ask): Provocation {
  return async (t, stream) => {
    const server = await build(t, script, overrides);
    await first?.(server);
    const whole = typeof body === 'object' ? { prompt: 'Hello', stream, ...body } : body;
    return answerOf(await server.post(path, whole, headers));
  };
}

const reject = (reason: 'queue_full' | 'budget_infeasible' | 'grammars_lost') => () => ({
  tokens: [],
  reject: { reason, leastFeasibleMs: null, detail: 'ENOENT: /srv/secret/tokenizer.json' },
});

const bytes =
  (text: string, options: Overrides['options'] = {}): Provocation =>
  async (t) =>
    parsed(await exchange((await build(t, undefined, { options })).port, text));

const limited = {
  ...openKey('sesame'),
  limits: { requestsPerMinute: 1, tokensPerMinute: null, requestsInFlight: null },
};
const authorization = { authorization: 'Bearer sesame' };

const PROVOKED: Readonly<Record<ErrorCode, Provocation>> = {
  invalid_value: post({ body: { temperature: 9 } }),
  invalid_json: post({ body: '{"prompt":' }),
  bad_request: post({ path: '/%E0%A4%A' }),
  unsupported_parameter: post({ body: { suffix: 'x' } }),
  context_length_exceeded: post({ body: { prompt: 'word '.repeat(300) } }),
  invalid_api_key: post({ overrides: { apiKeys: ['sesame'] } }),
  model_not_found: post({ body: { model: 'gpt-9' } }),
  route_not_found: post({ path: '/v1/nothing' }),
  method_not_allowed: async (t) => answerOf(await fetch(`${(await build(t)).url}/v1/completions`)),
  host_not_allowed: bytes('GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n', {
    host: '127.0.0.1',
  }),
  body_too_large: post({ body: { prompt: 'x'.repeat(3000) }, overrides: { options: { maxBody: 2048 } } }),
  unsupported_media_type: post({ headers: { 'content-type': 'text/plain' } }),
  rate_limit_exceeded: post({
    headers: authorization,
    overrides: { apiKeys: [limited] },
    first: (server) => server.post('/v1/completions', { prompt: 'Hello' }, authorization),
  }),
  queue_full: post({ script: reject('queue_full') }),
  internal_error: post({
    first: ({ engine }) => {
      engine.generate = () => {
        throw new Error('cannot read /srv/secret/file.json');
      };
    },
  }),
  engine_failed: post({ script: says('', { end: 'error' }) }),
  budget_infeasible: post({ script: reject('budget_infeasible') }),
  grammars_lost: post({ body: { response_format: { type: 'json_object' } }, script: reject('grammars_lost') }),
  engine_lost: post({ script: says('', { loseAfter: 0 }) }),
  upstream_failed: post({
    body: { model: 'big' },
    overrides: { upstreams: [{ ...upstream, url: new URL('http://127.0.0.1:9/v1') }] },
  }),
  deadline_exceeded: async (t, stream) => {
    const silent = await scriptedUpstream(t, () => undefined);
    return post({
      body: { model: 'big', sortie: { latency_budget_ms: 100 } },
      overrides: { upstreams: [{ ...upstream, url: silent.url }] },
    })(t, stream);
  },
  overloaded: async (t) => {
    const { context, url } = await build(t);
    Object.defineProperty(context.api.metrics, 'waitMs', { value: 61_000 });
    return answerOf(await fetch(`${url}/health/ready`));
  },
  loading: post({
    first: ({ engine }) => {
      engine.ready = null;
    },
  }),
  draining: post({
    first: ({ context }) => {
      context.draining = true;
    },
  }),
};

for (const [code, provoke] of Object.entries(PROVOKED) as [ErrorCode, Provocation][]) {
  void t.test(code, async (t) => {
    for (const stream of [false, true]) {
      const { status, headers, text } = await provoke(t, stream);
      const { error } = JSON.parse(text) as { error: { message: unknown; param: unknown } };
      t.equal(status, ERRORS[code].status);
      t.match(headers.get('content-type'), /^application\/json/);
      t.match(error, { code, type: ERRORS[code].type });
      t.ok(typeof error.message === 'string' && error.message.length > 5, 'says what is wrong');
      t.ok(error.param === null || typeof error.param === 'string', 'param is a string or null');
      t.equal(headers.has('retry-after'), [429, 502, 503].includes(status), 'Retry-After where a retry helps');
      t.equal(headers.has('retry-after-ms'), headers.has('retry-after'));
      const isFinal = ['budget_infeasible', 'deadline_exceeded'].includes(code);
      t.equal(
        headers.get('x-should-retry'),
        isFinal ? 'false' : null,
        'an SDK repeats no request that is as late again',
      );
      t.notMatch(text, /secret|node_modules|\.[jt]s\b|\bat \S+ \(/, 'no stack, no path, no detail');
    }
  });
}

const messages = [{ role: 'user', content: 'Hi' }];

void t.test('a fault mid-stream ends that answer and nothing else', async (t) => {
  const server = await build(t, says('one two three', { pace: 5 }), { keepsLog: true });
  for (const route of ['/v1/completions', '/v1/chat/completions', '/tokenize']) {
    const labels = `method="POST",route="${route}",status="500"`;
    const first = new RegExp(`^sortie_http_requests_total\\{${labels},[^}]*\\} 0$`, 'm');
    t.match((await server.get('/metrics')).text, first, 'from 0 on, so that the first fault shows as an increase');
  }
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
    server.ask('/v1/completions', { prompt: 'Hi', max_tokens, stream, logprobs: 1 });
  const fine = ask(12, true);
  for (const stream of [false, true]) t.match((await ask(13, stream)).text, /"code":"internal_error"/);
  t.match((await fine).text, /\[DONE\]/);
  t.ok(
    (await server.logged(3)).some((line) => 'fault' in line),
    'the log has the fault',
  );
  await until('idle', () => server.engine.live === 0);
  t.equal(server.context.api.metrics.live, 0);
  const { text: metrics } = await server.get('/metrics');
  t.match(metrics, /^sortie_request_failure_total\{reason="internal",[^}]*\} 2$/m);
  t.match(metrics, /^sortie_request_success_total\{finished_reason="abort",[^}]*\} 0$/m);
});

void t.test('a model without a chat template names the endpoint to use instead', async (t) => {
  const server = await build(t, undefined, { model: { chat: null } });
  const error = { code: 'unsupported_parameter', param: 'messages', message: /use \/v1\/completions/ };
  t.match(await server.ask('/v1/chat/completions', { messages }), { status: 400, body: { error } });
  t.equal((await server.ask('/v1/completions', { prompt: 'Hi' })).status, 200);
});

void t.test('messages, calls and tools that cannot fit are rejected before they are rendered', async (t) => {
  const chat = new ChatTemplate("{{ raise_exception('rendered') }}", {});
  const server = await build(t, undefined, { model: { chat } });
  const said = (length: number, content: string) => ({
    messages: Array.from({ length }, () => ({ role: 'user', content })),
  });
  const called = (count: number, text: string) => {
    const call = (_: unknown, i: number) => ({
      ...{ id: String(i), type: 'function', function: { name: 'f', arguments: text } },
    });
    return { messages: [...messages, { role: 'assistant', tool_calls: Array.from({ length: count }, call) }] };
  };
  const zeros = (length: number): number[] => Array.from({ length }, () => 0);
  const tool = (length: number) => ({
    messages,
    tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', required: zeros(length) } } }],
  });
  const long = [
    ...[said(257, ''), said(4, 'x'.repeat(200_000)), called(100, '{}'), tool(300)],
    called(1, JSON.stringify({ a: zeros(300) })),
  ];
  const short = [said(256, 'x'), called(2, '{"a": [0]}'), tool(100)];
  for (const path of ['/v1/chat/completions', '/tokenize'])
    for (const [fields, code] of [
      ...long.map((each) => [each, 'context_length_exceeded'] as const),
      ...short.map((each) => [each, 'invalid_value'] as const),
    ])
      t.match((await server.ask(path, fields)).body, { error: { code } }, JSON.stringify(fields).slice(0, 90));
});

void t.test('facts beside a status: methods, encodings, a request that runs no hook', async (t) => {
  const server = await build(t, says('x'));
  for (const [method, path, allow] of [
    ['GET', '/v1/completions', 'POST'],
    ['DELETE', '/v1/models/fake', 'GET, HEAD'],
    ['PROPFIND', '/v1/models/fake', 'GET, HEAD'],
  ] as const)
    t.match(await server.get(path, { method }), { status: 405, headers: { allow } }, method);
  for (const [encoding, status] of Object.entries({ gzip: 415, identity: 200, Identity: 200 }))
    t.match(
      await server.ask('/v1/completions', { prompt: 'x' }, { 'content-encoding': encoding }),
      { status },
      encoding,
    );
  t.match((await server.ask('/v1/completions', '[1]')).body, { error: { code: 'invalid_value' } });
  const unread = await server.get('/v1/models/%zz');
  t.match(unread, { body: { error: { code: 'bad_request' } }, headers: { 'x-content-type-options': 'nosniff' } });
  const count = 'sortie_http_requests_total{method="GET",route="unknown",status="400"';
  t.ok((await server.get('/metrics')).text.includes(count), 'a request that runs no hook is counted');
});

void t.test('an unknown path is reported before the body is checked', async (t) => {
  const server = await build(t, says('x'), { options: { maxBody: 2048 } });
  const form = new FormData();
  form.set('file', new Blob(['x'.repeat(100)]), 'speech.mp3');
  const bodies: [string, Asked][] = [
    ['a form', { body: form }],
    ['no body', {}],
    ['a large one', { body: '"' + 'x'.repeat(3000) + '"', headers: { 'content-type': 'application/json' } }],
    ['half a JSON', { body: '{', headers: { 'content-type': 'application/json' } }],
    ['compressed', { body: 'x', headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' } }],
  ];
  for (const [name, init] of bodies) {
    await t.test(name, async (t) => {
      const error = { code: 'route_not_found', message: /POST "\/v1\/audio\/transcriptions"/ };
      const unknown = await server.get('/v1/audio/transcriptions', { method: 'POST', ...init });
      t.match(unknown, { status: 404, headers: { 'x-content-type-options': 'nosniff' }, body: { error } });
      const known = await server.get('/v1/models', { method: 'POST', ...init });
      t.match(known, { status: 405, body: { error: { code: 'method_not_allowed' } } });
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

void t.test('bytes that are not a request get a status and a closed socket', async (t) => {
  const server = await build(t);
  t.match(await exchange(server.port, 'NONSENSE\r\n\r\n'), /^HTTP\/1\.1 400 /);
  const huge = `GET /health HTTP/1.1\r\nHost: x\r\nX-Big: ${'a'.repeat(40_000)}\r\n\r\n`;
  t.match(await exchange(server.port, huge), /^HTTP\/1\.1 431 /);
  t.equal(await exchange(server.port, 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n'), '');
  t.match(await exchange(server.port, 'GET /health HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /, 'without Host');
  t.match(await exchange(server.port, 'GET /health HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200 .*"ok"/s);
});

void t.test('one rejected choice cancels its siblings', async (t) => {
  let count = 0;
  const server = await build(t, () =>
    ++count === 2
      ? { tokens: [], reject: { reason: 'queue_full', leastFeasibleMs: null } }
      : { tokens: [5], delay: 20 },
  );
  t.equal((await server.ask('/v1/chat/completions', { messages, n: 3 })).status, 429);
  t.equal(server.engine.cancelled.length, 2);
});

void t.test('an engine that is not ready is a 503; liveness stays up', async (t) => {
  const server = await build(t);
  server.engine.ready = null;
  for (const path of ['/v1/models', '/health/ready', '/v2/health/ready', '/props'])
    t.equal((await server.get(path)).status, 503, path);
  const health = async (): Promise<unknown> => (await server.get('/health')).body;
  t.equal((await server.get('/v2/health/live')).status, 200);
  t.match(await health(), { status: 'loading' }, 'no client takes it for ready');
  server.engine.ready = READY;
  t.match(await health(), { status: 'ok' });
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
  for (const [body, message] of wrong)
    await t.test(body || 'no body', async (t) => {
      t.match((await server.ask('/v1/completions', body)).body, { error: { code: 'invalid_json', message } });
    });
});
