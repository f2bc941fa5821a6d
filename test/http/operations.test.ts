import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { READY } from '../fakes/engine.js';
import { build, events, says, tokenizer, withBegin } from '../fakes/server.js';
import { until } from '../support/until.js';

void t.test('model cards: the routed model and one per exit', async (t) => {
  const server = await build(t);
  const list = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: Record<string, unknown>[] };
  const ids = list.data.map(({ id }) => id);
  t.same(ids, ['fake', 'fake:10', 'fake:15', 'fake:20', 'fake:25', 'fake:30']);
  const card = { object: 'model', created: 1_700_000_000, owned_by: 'sortie', root: 'fake', max_model_len: 256 };
  t.match(list.data[0], card);
  const one = await fetch(`${server.url}/v1/models/${encodeURIComponent('fake:15')}`);
  t.match(await one.json(), { id: 'fake:15', root: 'fake', exit_layer: 15 });
  const missing = await fetch(`${server.url}/v1/models/fake:12`);
  t.equal(missing.status, 404);
  t.match(await missing.json(), { error: { code: 'model_not_found', param: 'model' } });
  const long = await fetch(`${server.url}/v1/models/${'x'.repeat(140)}`);
  t.match(await long.json(), { error: { code: 'model_not_found' } }, 'a name may have 128 characters and an exit');
});

void t.test('each name of the model is listed with its depths, accepted, and in the answer', async (t) => {
  const server = await build(t, undefined, { model: { name: 'own', aliases: ['gpt-4o', 'org/b'] } });
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string; root: string }[] };
  const names = ['own', 'gpt-4o', 'org/b'];
  const listed = names.flatMap((name) => [name, ...[10, 15, 20, 25, 30].map((layer) => `${name}:${layer}`)]);
  const ids = data.map(({ id }) => id);
  t.strictSame(ids, listed);
  t.ok(data.every(({ root }) => root === 'own'));
  for (const name of listed) {
    t.match(await (await fetch(`${server.url}/v1/models/${name}`)).json(), { id: name });
    const whole = await server.post('/v1/completions', { model: name, prompt: 'x' });
    t.match(await whole.json(), { model: name });
  }
  const pinned = server.engine.requests.at(-1)?.depth;
  t.match(pinned, { minExit: 30, maxExit: 30 });
  const streamed = await server.post('/v1/completions', { model: 'gpt-4o', prompt: 'x', stream: true });
  t.match(JSON.parse((await events(streamed))[0] ?? ''), { model: 'gpt-4o' });
  t.match(await (await server.post('/v1/completions', { prompt: 'x' })).json(), { model: 'own' }, 'no name: the first');
  for (const name of ['gpt-4o:12', 'gpt-4', 'own:gpt-4o', '10']) {
    const rejected = await server.post('/v1/completions', { model: name, prompt: 'x' });
    t.match(await rejected.json(), { error: { code: 'model_not_found', message: /it has own, own:10, .*gpt-4o:30/ } });
  }
});

void t.test('a model name may have slashes, escaped or not', async (t) => {
  const options = { corsOrigin: ['https://a.b'] };
  const server = await build(t, undefined, { model: { name: 'org/team/name' }, options });
  const ask = (name: string, init: RequestInit = {}) => fetch(`${server.url}/v1/models/${name}`, init);
  for (const name of ['org/team/name', 'org%2Fteam%2Fname', 'org/team%2fname', 'org/team/name?x=1']) {
    const response = await ask(name);
    t.equal(response.status, 200, name);
    t.match(await response.json(), { id: 'org/team/name', exit_layer: null }, name);
  }
  for (const name of ['org/team/name:15', 'org%2Fteam%2Fname%3A15']) {
    t.match(await (await ask(name)).json(), { id: 'org/team/name:15', exit_layer: 15 }, name);
  }
  t.equal((await ask('org/team/name', { method: 'HEAD' })).status, 200);
  for (const name of ['org/team', 'org/team/name/', 'org/team/name:12', 'org', '']) {
    const response = await ask(name);
    t.equal(response.status, 404, name);
    t.match(await response.json(), { error: { code: 'model_not_found', param: 'model' } }, name);
  }
  for (const name of ['org/team/name', 'org%2Fteam%2Fname', 'org']) {
    const response = await ask(name, { method: 'DELETE' });
    t.equal(response.headers.get('allow'), 'GET, HEAD', name);
    t.match(await response.json(), { error: { code: 'method_not_allowed' } }, name);
  }
  const nowhere = await fetch(`${server.url}/v1/nowhere/at/all`);
  t.match(await nowhere.json(), { error: { code: 'route_not_found' } }, 'the same with CORS');
  const named = await server.post('/v1/completions', { model: 'org/team/name:15', prompt: 'x' });
  t.match(await named.json(), { model: 'org/team/name:15' });
});

void t.test("tokenize and detokenize have vLLM's form", async (t) => {
  const server = await build(t);
  const text = 'Hello, <|im_end|> world';
  const tokens = (await (await server.post('/tokenize', { model: 'fake', prompt: text })).json()) as {
    tokens: number[];
  };
  t.match(tokens, { count: tokens.tokens.length, max_model_len: 256 });
  t.same(await (await server.post('/detokenize', { model: 'fake', tokens: tokens.tokens })).json(), { prompt: text });
  const chat = await server.post('/tokenize', { messages: [{ role: 'user', content: 'Hi' }] });
  t.ok(((await chat.json()) as { count: number }).count > 5);
  t.same(await (await server.post('/tokenize', { prompt: '' })).json(), { count: 0, max_model_len: 256, tokens: [] });
  t.equal((await server.post('/tokenize', {})).status, 400);
  t.equal((await server.post('/detokenize', { tokens: [49152] })).status, 400);
  t.equal((await server.post('/tokenize', { model: 'other', prompt: 'x' })).status, 404);
});

void t.test('tokenize counts a text that is empty or too long for an answer', async (t) => {
  const server = await build(t, undefined, { model: { tokenizer: withBegin() } });
  const ask = async (fields: object): Promise<number> => {
    const response = await server.post('/tokenize', fields);
    t.equal(response.status, 200);
    return ((await response.json()) as { count: number }).count;
  };
  const text = 'word '.repeat(1000);
  const tokens = tokenizer.encode(text, false).length;
  t.equal(await ask({ prompt: text }), tokens + 1);
  t.ok((await ask({ messages: [{ role: 'user', content: text }] })) > tokens);
  t.equal(await ask({ prompt: '' }), 1, 'the begin token');
  t.equal(await ask({ prompt: '', add_special_tokens: false }), 0);
});

void t.test('add_special_tokens of a generation request equals that of /tokenize', async (t) => {
  const server = await build(t, undefined, { model: { tokenizer: withBegin() } });
  const chat = { messages: [{ role: 'user', content: 'Hi' }] };
  for (const [path, fields] of [
    ['/v1/completions', { prompt: 'Hi' }],
    ['/v1/completions', { prompt: ['Hi'] }],
    ['/v1/chat/completions', chat],
  ] as const) {
    const shared = 'prompt' in fields ? { prompt: 'Hi' } : fields;
    for (const add of [undefined, null, true, false]) {
      const asked = { add_special_tokens: add };
      t.equal((await server.post(path, { ...fields, ...asked, max_tokens: 2 })).status, 200);
      const { tokens } = (await (await server.post('/tokenize', { ...shared, ...asked })).json()) as {
        tokens: number[];
      };
      t.same(server.engine.requests.at(-1)?.prompt, tokens, `${path}, ${add ?? 'absent'}`);
      t.equal(tokens[0] === 0, add ?? path === '/v1/completions');
    }
  }
});

void t.test(
  'tokenize accepts the fields around messages, and rejects fields that would change the count',
  async (t) => {
    const server = await build(t, undefined, { model: { tokenizer: withBegin() } });
    const begin = 0;
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ];
    const ask = async (fields: object): Promise<number[]> => {
      const response = await server.post('/tokenize', fields);
      t.equal(response.status, 200, JSON.stringify(fields));
      return ((await response.json()) as { tokens: number[] }).tokens;
    };
    const spoken = tokenizer.encode('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n', false);
    const answer = tokenizer.encode('<|im_start|>assistant\n', false);
    t.same(await ask({ messages }), [...spoken, ...answer], 'as in chat');
    t.same(await ask({ messages, add_generation_prompt: null }), [...spoken, ...answer]);
    t.same(await ask({ messages, add_generation_prompt: false }), spoken);
    const open = tokenizer.encode('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello', false);
    t.same(await ask({ messages, continue_final_message: true }), open);
    const framed = { messages, add_generation_prompt: false, add_special_tokens: true };
    t.same(await ask(framed), [begin, ...spoken]);
    const hi = tokenizer.encode('Hi', false);
    t.same(await ask({ prompt: 'Hi' }), [begin, ...hi]);
    t.same(await ask({ prompt: 'Hi', add_special_tokens: false }), hi);
    const whole = { max_tokens: 5, stream: true, tool_choice: 'auto', parallel_tool_calls: true, stop: ['x'] };
    t.same(await ask({ messages, ...whole }), [...spoken, ...answer], "a chat's whole body");
    const rejected: Record<string, unknown> = {
      chat_template: 'x',
      truncate_prompt_tokens: 1,
      functions: [{ name: 'f' }],
    };
    for (const [field, value] of Object.entries(rejected)) {
      const response = await server.post('/tokenize', { messages, [field]: value });
      t.equal(response.status, 400, field);
      t.match(await response.json(), { error: { code: 'unsupported_parameter', param: field } });
    }
    const neutral = { continue_final_message: false, chat_template: null, chat_template_kwargs: {} };
    t.same(await ask({ messages, ...neutral, return_token_strs: false }), [...spoken, ...answer]);
  },
);

void t.test("metrics count requests, and no name has a colon or a client's text", async (t) => {
  const server = await build(t);
  await server.post('/v1/completions', { prompt: 'Hello' }, { 'X-Latency-Budget-Ms': '10000' });
  await server.post('/v1/completions', { prompt: 'Hello' }, { 'X-Latency-Budget-Ms': '0.001' });
  await server.post('/v1/completions', { prompt: 'Hello', temperature: 9 });
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const value = (series: string): number => {
    const line = text.split('\n').find((candidate) => candidate.startsWith(series));
    return Number(line?.split(' ').at(-1));
  };
  t.equal(value('sortie_num_requests_running'), 0);
  t.equal(value('sortie_kv_cache_usage_perc'), 0.25);
  t.equal(value('sortie_prompt_tokens_total'), 2);
  t.equal(value('sortie_request_success_total{finished_reason="stop"'), 2);
  t.equal(value('sortie_prefix_cache_hits_total'), 2);
  t.equal(value('sortie_time_to_first_token_seconds_count'), 2);
  t.equal(value('sortie_budget_requests_total{budget_class="up_to_16s",outcome="whole"'), 1);
  t.equal(value('sortie_budget_requests_total{budget_class="up_to_250ms",outcome="late"'), 1);
  t.equal(value('sortie_planned_total{exit_layer="30",service_class="guaranteed"'), 2);
  t.equal(value('sortie_exit_tokens_total{exit_layer="30"'), value('sortie_generation_tokens_total'));
  t.equal(value('sortie_http_requests_total{method="POST",route="/v1/completions",status="200"'), 2);
  t.equal(value('sortie_http_requests_total{method="POST",route="/v1/completions",status="400"'), 1);
  for (const line of text.split('\n')) t.notMatch(line, /^[a-z_]*:/);
  t.equal(server.context.api.metrics.live, 0, 'no sequence is left');
});

void t.test('request ids are accepted and returned', async (t) => {
  const server = await build(t);
  const own = await fetch(`${server.url}/health`, { headers: { 'x-request-id': 'abc-1' } });
  t.equal(own.headers.get('x-request-id'), 'abc-1');
  const bad = await fetch(`${server.url}/health`, { headers: { 'x-request-id': 'a b"c' } });
  t.match(bad.headers.get('x-request-id'), /^[0-9a-f-]{36}$/);
});

void t.test('the log has no prompt, no answer and no key by default', async (t) => {
  const lines: string[] = [];
  const server = await build(t, undefined, { log: (line) => lines.push(line), apiKeys: ['sesame'] });
  const body = { prompt: 'my secret diary', user: 'u1', extra_field: 1 };
  await server.post('/v1/completions', body, { authorization: 'Bearer sesame', 'x-request-id': 'r1' });
  await server.post('/v1/completions', '{"prompt": "my secret', { authorization: 'Bearer sesame' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  const log = lines.join('');
  t.notMatch(log, /secret|Paris|sesame/);
  t.match(log, /"reqId":"r1".*"user":"u1"/);
  t.match(log, /unknown fields ignored/);
  const spoken: string[] = [];
  const open = await build(t, undefined, { log: (line) => spoken.push(line), options: { logPrompts: true } });
  await open.post('/v1/completions', body);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.match(spoken.join(''), /my secret diary/);
});

void t.test('a log line has the plan, the times and the counts as JSON', async (t) => {
  const lines: string[] = [];
  const server = await build(t, undefined, { log: (line) => lines.push(line) });
  for (const stream of [false, true]) {
    await (await server.post('/v1/completions', { prompt: 'x', stream }, { 'x-request-id': 'r2' })).text();
  }
  const told = (): { msg: string }[] =>
    lines.map((line) => JSON.parse(line) as { msg: string }).filter(({ msg }) => msg === 'request');
  for (let tries = 0; tries < 100 && told().length < 2; tries++) await new Promise((go) => setTimeout(go, 10));
  const requests = told();
  t.equal(requests.length, 2);
  const plan = { exit_layer: 30, predicted_ttft_ms: 1.5 };
  const sortie = { plan, actual_ms: Number, ttft_ms: Number, queue_ms: Number };
  // The simulator reads its trace from these lines.
  const counts = { prompt_tokens: 1, completion_tokens: tokenizer.encode('Paris is the capital.', false).length };
  for (const line of requests) {
    t.match(line, { reqId: 'r2', route: '/v1/completions', status: 200, ms: Number, model: 'fake', ...counts, sortie });
  }
});

void t.test('probes and scrapes have no line at the default level; other requests log their time in ms', async (t) => {
  const lines: string[] = [];
  const server = await build(t, undefined, { log: (line) => lines.push(line) });
  // Fastify logs its port.
  lines.length = 0;
  for (const path of ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/metrics']) {
    t.equal((await fetch(server.url + path)).status, 200, path);
  }
  const before = monotonicMs();
  await fetch(`${server.url}/version`);
  await until('logged', () => lines.length > 0);
  const took = monotonicMs() - before;
  const [line, ...others] = lines.map((line) => JSON.parse(line) as { ms: number });
  t.match(line, { route: '/version', status: 200 });
  t.same(others, []);
  t.ok(line && line.ms > 0 && line.ms <= took, `${line?.ms} of ${took} ms`);
});

void t.test('a log line lists unknown fields: at most 20, shortened', async (t) => {
  const lines: string[] = [];
  const server = await build(t, undefined, { log: (line) => lines.push(line) });
  const unknown = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`x${i}${'y'.repeat(100)}`, 1]));
  for (const more of [unknown, { user: 'known', stop: null }]) {
    t.equal((await server.post('/v1/completions', { prompt: 'x', ...more })).status, 200);
  }
  const told = lines.map((line) => JSON.parse(line) as { msg: string; fields: string[] });
  const ignored = told.filter(({ msg }) => msg === 'unknown fields ignored');
  const names = Object.keys(unknown).map((name) => name.slice(0, 64));
  const listed = ignored.map(({ fields }) => fields);
  t.same(listed, [names.slice(0, 20)], 'no line for the request without unknown fields');
});

void t.test('a misspelt field is named in a header and in the log', async (t) => {
  const lines: string[] = [];
  const server = await build(t, undefined, { log: (line) => lines.push(line) });
  const post = (more: object) => server.post('/v1/completions', { prompt: 'x', ...more });
  const misspelt = await post({ max_token: 5, temprature: 0 });
  t.equal(misspelt.status, 200);
  const hint = 'max_token is ignored; did you mean max_tokens? temprature is ignored; did you mean temperature?';
  t.equal(misspelt.headers.get('x-sortie-warning'), hint);
  const told = lines.map((line) => JSON.parse(line) as { level: number; msg: string });
  const warned = told.filter(({ level }) => level === 40);
  t.match(warned, [{ msg: `unknown fields ignored: ${hint}` }]);
  for (const more of [{ max_tokens: 5 }, { safety_identifier: 'x' }, { 'max_token\r\nx': 1 }])
    t.equal((await post(more)).headers.get('x-sortie-warning'), null, JSON.stringify(more));
});

void t.test('the line of a failed request has the reason, also for a stream that has begun', async (t) => {
  const lines: string[] = [];
  const server = await build(t, says('one two', { loseAfter: 1 }), { log: (line) => lines.push(line) });
  const requests = (): unknown[] =>
    lines.map((line) => JSON.parse(line) as { msg: string }).filter((line) => line.msg === 'request');
  const next = async (): Promise<void> => {
    const before = requests().length;
    await until('logged', () => requests().length > before);
  };
  const logs = async (body: unknown, line: object): Promise<void> => {
    const written = next();
    await (await server.post('/v1/completions', body)).text();
    await written;
    t.match(requests().at(-1), line);
  };
  await logs({ prompt: 'x', temperature: 9 }, { status: 400, code: 'invalid_value', param: 'temperature' });
  await logs('{', { status: 400, code: 'invalid_json' });
  await logs({ prompt: 'x', model: 'y' }, { status: 404, code: 'model_not_found', param: 'model' });
  await logs({ prompt: 'x', stream: true }, { status: 200, code: 'engine_lost' });
  await logs({ prompt: 'x', sortie: { ['y'.repeat(99)]: 1 } }, { status: 400, param: /^sortie\.y{20,57}$/ });
});

void t.test('the measured times of /props have at most three decimals', async (t) => {
  const server = await build(t);
  const point = { rows: 1, context: 0, ms: 1.5296879997476935 };
  const cost = { units: [{ unit: 'head', kernel: 'fp32', decode: [point], prefill: [point] }] };
  server.engine.ready = { ...READY, loadMs: 2341.96, calibrateMs: 854.2, cost };
  const { calibration } = (await (await fetch(`${server.url}/props`)).json()) as { calibration: object };
  const rounded = { ...point, ms: 1.53 };
  t.strictSame(calibration, {
    ...{ load_ms: 2342, calibrate_ms: 854 },
    cost: [{ unit: 'head', kernel: 'fp32', decode: [rounded], prefill: [rounded] }],
  });
});

void t.test('protection headers for browsers are on every response, errors and streams included', async (t) => {
  const server = await build(t);
  const answers = [
    await fetch(`${server.url}/health`),
    await fetch(`${server.url}/nowhere`),
    await server.post('/v1/completions', { prompt: 'x', stream: true }),
    await server.post('/v1/completions', { prompt: 'x', temperature: 9 }),
  ];
  for (const { headers } of answers) {
    t.equal(headers.get('x-content-type-options'), 'nosniff');
    t.equal(headers.get('x-frame-options'), 'DENY');
    t.equal(headers.get('referrer-policy'), 'no-referrer');
    t.type(headers.get('x-request-id'), 'string');
  }
});

void t.test('no client adds a label: unknown paths share one, and models and keys have none', async (t) => {
  const server = await build(t, undefined, { apiKeys: ['sesame'] });
  const headers = { authorization: 'Bearer sesame' };
  for (let i = 0; i < 20; i++) {
    await fetch(`${server.url}/stranger-${i}?q=stranger`);
    await fetch(`${server.url}/v1/models/stranger-${i}`, { headers });
    await server.post('/v1/completions', { prompt: 'x', model: `stranger-${i}`, user: 'stranger' }, headers);
    await server.post('/v1/completions', { prompt: 'x', user: 'stranger' }, { ...headers, 'x-request-id': 'stranger' });
    await server.post('/v1/completions', { prompt: 'x' }, { authorization: `Bearer stranger-${i}` });
  }
  const text = await (await fetch(`${server.url}/metrics`)).text();
  t.notMatch(text, /stranger|sesame/);
  const routes = new Set([...text.matchAll(/http_requests_total\{.*route="([^"]*)"/g)].map(([, route]) => route));
  // Routes with a body have a series from the start.
  const answers = ['/v1/completions', '/v1/chat/completions', '/v1/responses', '/v1/messages'];
  const posts = [...answers, '/v1/responses/input_tokens', '/v1/messages/count_tokens', '/tokenize', '/detokenize'];
  t.same(routes, new Set(['unknown', '/v1/models/:model', ...posts]));
});

void t.test('API keys: either header works, several keys work, health and metrics stay open', async (t) => {
  const server = await build(t, undefined, { apiKeys: ['alpha', 'beta'] });
  const ask = (headers: Record<string, string>) => server.post('/v1/completions', { prompt: 'x' }, headers);
  for (const headers of [
    { authorization: 'Bearer alpha' },
    { authorization: 'bearer beta' },
    { 'x-api-key': 'beta' },
    { authorization: 'Bearer made-up', 'x-api-key': 'beta' },
    { authorization: 'Bearer alpha', 'x-api-key': 'made-up' },
  ]) {
    t.equal((await ask(headers as unknown as Record<string, string>)).status, 200);
  }
  for (const headers of [{}, { authorization: 'Bearer alph' }, { authorization: 'Basic alpha' }, { 'x-api-key': '' }]) {
    const response = await ask(headers);
    t.equal(response.status, 401);
    t.equal(response.headers.get('www-authenticate'), 'Bearer');
    t.match(await response.json(), { error: { type: 'authentication_error', code: 'invalid_api_key', param: null } });
  }
  for (const path of ['/v1/models', '/props', '/v1/models/fake', '/v1/models/org/name'])
    t.equal((await fetch(server.url + path)).status, 401, path);
  for (const path of ['/health', '/health/ready', '/metrics', '/version', '/openapi.json']) {
    t.equal((await fetch(server.url + path)).status, 200, path);
  }
});

void t.test('CORS is off by default and on for named origins', async (t) => {
  const headers = { origin: 'https://app.example', 'access-control-request-method': 'POST' };
  const closed = await build(t);
  t.equal((await fetch(`${closed.url}/health`, { headers })).headers.get('access-control-allow-origin'), null);
  const open = await build(t, undefined, { options: { corsOrigin: ['https://app.example'] } });
  const stream = await open.post('/v1/completions', { prompt: 'x', stream: true }, { origin: 'https://app.example' });
  t.equal(stream.headers.get('access-control-allow-origin'), 'https://app.example', 'on streams too');
  const preflight = await fetch(`${open.url}/v1/completions`, { method: 'OPTIONS', headers });
  t.equal(preflight.status, 204);
  const plain = await fetch(`${open.url}/v1/completions`, { method: 'OPTIONS' });
  t.equal(plain.status, 204, 'an OPTIONS that is not a preflight');
  t.equal(await plain.text(), '');
  const all = await build(t, undefined, { options: { corsOrigin: ['https://app.example', '*'] } });
  const anywhere = await fetch(`${all.url}/health`, { headers: { origin: 'https://elsewhere.example' } });
  t.equal(anywhere.headers.get('access-control-allow-origin'), '*', '* allows all origins');
});

void t.test('the document and its page need no network', async (t) => {
  const server = await build(t);
  const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as {
    openapi: string;
    paths: Record<string, unknown>;
  };
  t.equal(document.openapi, '3.1.0');
  const answers = ['/v1/completions', '/v1/chat/completions', '/v1/models'];
  for (const path of [...answers, '/tokenize', '/health/ready', '/metrics']) t.ok(path in document.paths, path);
  const page = await fetch(`${server.url}/docs`);
  t.equal(page.status, 200);
  const html = await page.text();
  t.notMatch(html, /(src|href)="https?:/);
  const script = /src="([^"]*swagger-ui-bundle.js)"/.exec(html)?.[1] ?? '';
  t.equal((await fetch(new URL(script, `${server.url}/docs/`))).status, 200);
});

void t.test('props and version', async (t) => {
  const server = await build(t);
  const dry = { dry_multiplier: 8, dry_base: 2, dry_allowed_length: 3 };
  t.match(await (await fetch(`${server.url}/props`)).json(), {
    model: 'fake',
    exits: [{ layer: 10, dry }, { layer: 15 }, { layer: 20 }, { layer: 25 }, { layer: 30, dry: null }],
    limits: { max_model_len: 256, max_running: 4, max_choices: 64 },
    calibration: { load_ms: 1, calibrate_ms: 1, cost: [] },
  });
  t.same(await (await fetch(`${server.url}/version`)).json(), { version: '0.0.0-test' });
});

void t.test('the playground loads from this server alone', async (t) => {
  const server = await build(t);
  const page = await fetch(server.url);
  const html = await page.text();
  t.match(page.headers.get('content-type'), /^text\/html/);
  t.match(page.headers.get('content-security-policy'), /default-src 'self'/);
  t.notMatch(html, /https?:\/\//);
  for (const [, path] of html.matchAll(/(?:src|href)="([^":]+)"/g)) {
    t.equal((await fetch(`${server.url}/${path ?? ''}`)).status, 200, path ?? '');
  }
});

void t.test('the operations port responds while clients hold all connections of the main port', async (t) => {
  const server = await build(t, undefined, { options: { opsPort: 0, maxConnections: 2 } });
  const held = await Promise.all(
    [1, 2].map(async () => {
      const socket = connect(server.port, '127.0.0.1');
      await once(socket, 'connect');
      return socket;
    }),
  );
  let told = '';
  const rejected = connect(server.port, '127.0.0.1').on('data', (data: Buffer) => (told += data.toString()));
  await once(rejected, 'close');
  t.equal(told, '', 'closed immediately, without a response');
  for (const path of ['/health', '/health/ready', '/metrics']) {
    t.equal((await fetch(server.opsUrl + path)).status, 200, path);
  }
  for (const socket of held) socket.destroy();
});

void t.test('metrics stay on the main port if the option says so; docs do not', async (t) => {
  const server = await build(t, undefined, { options: { opsPort: 0, mainMetrics: true } });
  const statuses = ['/metrics', '/docs/', '/openapi.json'].map(async (path) => (await fetch(server.url + path)).status);
  t.same(await Promise.all(statuses), [200, 404, 404]);
  t.equal((await fetch(`${server.opsUrl}/metrics`)).status, 200);
});

void t.test('metrics and docs move to the operations port; health is on both', async (t) => {
  const server = await build(t, undefined, { options: { opsPort: 0 }, apiKeys: ['sesame'] });
  const statuses = async (base: string, paths: readonly string[]): Promise<number[]> =>
    Promise.all(
      paths.map(async (path) => {
        const response = await fetch(base + path);
        // The client of Node.js 20 fails where the server closes the connection of an unread body.
        await response.text();
        return response.status;
      }),
    );
  const moved = ['/metrics', '/docs/', '/docs/json', '/openapi.json'];
  const shared = ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/version'];
  t.same(await statuses(server.url, moved), [404, 404, 404, 404]);
  t.same(await statuses(server.opsUrl, moved), [200, 200, 200, 200]);
  for (const url of [server.url, server.opsUrl]) t.same(new Set(await statuses(url, shared)), new Set([200]));
  t.same(await statuses(server.opsUrl, ['/v1/models', '/']), [404, 404], 'the operations port has nothing else');
  t.notMatch(await (await fetch(server.url)).text(), /href="(docs|metrics)"/, 'the playground has neither link');
  const body = await (await fetch(`${server.url}/metrics`)).json();
  t.match(body, { error: { type: 'not_found_error', code: 'route_not_found', param: null } });
  const document = (await (await fetch(`${server.opsUrl}/openapi.json`)).json()) as {
    openapi: string;
    paths: Record<string, unknown>;
  };
  t.equal(document.openapi, '3.1.0');
  t.ok('/v1/chat/completions' in document.paths);
  t.match(await (await fetch(`${server.opsUrl}/metrics`)).text(), /^sortie_num_requests_running/m);
  server.context.draining = true;
  t.same(await statuses(server.opsUrl, ['/health', '/health/ready', '/metrics']), [200, 503, 200]);
  t.same(await statuses(server.url, ['/v2/health/live', '/v2/health/ready', '/v1/models']), [200, 503, 401]);
});
