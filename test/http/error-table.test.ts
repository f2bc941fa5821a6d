/**
 * Provokes every code of the table in src/gateway/api/errors.ts over a connection. A code without an entry here does not
 * compile.
 */
import t, { type Test } from 'tap';
import { ERRORS, type ErrorCode } from '../../src/gateway/api/errors.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';
import { build, exchange, says, type Overrides, type TestServer } from '../fakes/server.js';
import type { FakeEngine } from '../fakes/engine.js';

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

void t.test('the table has all statuses of OpenAI-compatible servers', (t) => {
  const statuses = new Set<number>(Object.values(ERRORS).map(({ status }) => status));
  t.same(
    [400, 401, 404, 405, 413, 415, 429, 500, 502, 503].filter((status) => !statuses.has(status)),
    [],
  );
  t.end();
});
