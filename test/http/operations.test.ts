import t from 'tap';
import { monotonicMs } from '../../src/util/clock.js';
import { READY } from '../fakes/engine.js';
import { type Answered, type Asked, build, tokenizer, withBegin } from '../fakes/server.js';

const PATH = '/v1/completions';
const prompt = { prompt: 'x' };
const LAYERS = [10, 15, 20, 25, 30];

void t.test('each name of the model is listed with its depths, accepted, and in the answer', async (t) => {
  const server = await build(t, undefined, { model: { name: 'own', aliases: ['gpt-4o', 'org/b'] } });
  const names = ['own', 'gpt-4o', 'org/b'].flatMap((name) => [name, ...LAYERS.map((layer) => `${name}:${layer}`)]);
  const { data } = (await server.get('/v1/models')).body as unknown as { data: { id: string }[] };
  const ids = data.map(({ id }) => id);
  t.strictSame(ids, names);
  const card = { object: 'model', created: 1_700_000_000, owned_by: 'sortie', root: 'own', max_model_len: 256 };
  for (const each of data) t.match(each, card);
  for (const name of names) {
    t.match((await server.get(`/v1/models/${encodeURIComponent(name)}`)).body, { id: name, root: 'own' });
    t.match((await server.ask(PATH, { ...prompt, model: name })).body, { model: name });
  }
  t.match(server.last().depth, { minExit: 30, maxExit: 30 });
  t.match((await server.chunks(PATH, { ...prompt, model: 'gpt-4o' }))[0], { model: 'gpt-4o' });
  t.match((await server.ask(PATH, prompt)).body, { model: 'own' }, 'no name: the first');
  for (const name of ['gpt-4o:12', 'gpt-4', 'own:gpt-4o', '10']) {
    const error = { code: 'model_not_found', message: /it has own, own:10, .*gpt-4o:30/ };
    t.match((await server.ask(PATH, { ...prompt, model: name })).body, { error });
  }
  const long = await server.get(`/v1/models/${'x'.repeat(140)}`);
  t.match(long.body, { error: { code: 'model_not_found' } }, 'a name may have 128 characters and an exit');
});

void t.test('a model name may have slashes, escaped or not', async (t) => {
  const options = { corsOrigin: ['https://a.b'] };
  const server = await build(t, undefined, { model: { name: 'org/team/name' }, options });
  const ask = (name: string, init?: Asked) => server.get(`/v1/models/${name}`, init);
  for (const name of ['org/team/name', 'org%2Fteam%2Fname', 'org/team%2fname', 'org/team/name?x=1'])
    t.match(await ask(name), { status: 200, body: { id: 'org/team/name', exit_layer: null } }, name);
  for (const name of ['org/team/name:15', 'org%2Fteam%2Fname%3A15'])
    t.match((await ask(name)).body, { id: 'org/team/name:15', exit_layer: 15 }, name);
  t.equal((await fetch(`${server.url}/v1/models/org/team/name`, { method: 'HEAD' })).status, 200);
  for (const name of ['org/team', 'org/team/name/', 'org/team/name:12', 'org', ''])
    t.match(await ask(name), { status: 404, body: { error: { code: 'model_not_found', param: 'model' } } }, name);
  for (const name of ['org/team/name', 'org%2Fteam%2Fname', 'org']) {
    const error = { code: 'method_not_allowed' };
    t.match(await ask(name, { method: 'DELETE' }), { headers: { allow: 'GET, HEAD' }, body: { error } }, name);
  }
  const nowhere = await server.get('/v1/nowhere/at/all');
  t.match(nowhere.body, { error: { code: 'route_not_found' } }, 'the same with CORS');
  t.match((await server.ask(PATH, { ...prompt, model: 'org/team/name:15' })).body, { model: 'org/team/name:15' });
});

const counts = ({ body }: Answered) => body as unknown as { count: number; tokens: number[] };

void t.test("tokenize and detokenize have vLLM's form, for a text of any length", async (t) => {
  const server = await build(t);
  const text = 'Hello, <|im_end|> world';
  const { tokens, ...rest } = counts(await server.ask('/tokenize', { model: 'fake', prompt: text }));
  t.same(rest, { count: tokens.length, max_model_len: 256 });
  t.same((await server.ask('/detokenize', { model: 'fake', tokens })).body, { prompt: text });
  const none = { count: 0, max_model_len: 256, tokens: [] };
  t.same((await server.ask('/tokenize', { prompt: '' })).body, none);
  t.equal((await server.ask('/tokenize', { model: 'other', prompt: 'x' })).status, 404);
  const long = 'word '.repeat(1000);
  const length = tokenizer.encode(long, false).length;
  t.match((await server.ask('/tokenize', { prompt: long })).body, { count: length });
  const chat = counts(await server.ask('/tokenize', { messages: [{ role: 'user', content: long }] }));
  t.ok(chat.count > length);
});

void t.test('add_special_tokens of a generation request equals that of /tokenize', async (t) => {
  const server = await build(t, undefined, { model: { tokenizer: withBegin() } });
  const chat = { messages: [{ role: 'user', content: 'Hi' }] };
  for (const [path, fields] of [
    [PATH, { prompt: 'Hi' }],
    [PATH, { prompt: ['Hi'] }],
    ['/v1/chat/completions', chat],
  ] as const)
    for (const add of [undefined, null, true, false]) {
      const asked = { add_special_tokens: add };
      await server.ask(path, { ...fields, ...asked, max_tokens: 2 });
      const shared = 'prompt' in fields ? { prompt: 'Hi' } : fields;
      const { tokens } = counts(await server.ask('/tokenize', { ...shared, ...asked }));
      t.same(server.last().prompt, tokens, `${path}, ${add ?? 'absent'}`);
      t.equal(tokens[0] === 0, add ?? path === PATH);
    }
  t.same(counts(await server.ask('/tokenize', { prompt: '' })).tokens, [0], 'the begin token');
});

void t.test('request ids are accepted and returned', async (t) => {
  const server = await build(t);
  const idOf = async (id: string) => (await server.get('/health', { headers: { 'x-request-id': id } })).headers;
  t.match(await idOf('abc-1'), { 'x-request-id': 'abc-1' });
  t.match(await idOf('a b"c'), { 'x-request-id': /^[0-9a-f-]{36}$/ });
});

void t.test('the log has no prompt, no answer and no key by default', async (t) => {
  const server = await build(t, undefined, { keepsLog: true, apiKeys: ['sesame'] });
  const body = { prompt: 'my secret diary', user: 'u1', extra_field: 1 };
  const authorization = { authorization: 'Bearer sesame' };
  await server.ask(PATH, body, { ...authorization, 'x-request-id': 'r1' });
  await server.ask(PATH, '{"prompt": "my secret', authorization);
  const lines = [...(await server.logged(2)), ...(await server.logged(1, 'unknown fields ignored'))];
  t.notMatch(JSON.stringify(lines), /secret|Paris|sesame/);
  t.match(lines[0], { reqId: 'r1', user: 'u1' });
  const open = await build(t, undefined, { keepsLog: true, options: { logPrompts: true } });
  await open.ask(PATH, body);
  t.match(JSON.stringify(await open.logged()), /my secret diary/);
});

void t.test('probes and scrapes have no line at the default level; other requests log their time in ms', async (t) => {
  const server = await build(t, undefined, { keepsLog: true });
  for (const path of ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/metrics'])
    t.equal((await server.get(path)).status, 200, path);
  const before = monotonicMs();
  await server.get('/version');
  const lines = await server.logged();
  const took = monotonicMs() - before;
  t.match(lines, { length: 1, 0: { route: '/version', status: 200 } });
  const ms = Number(lines[0]?.ms);
  t.ok(ms > 0 && ms <= took, `${ms} of ${took} ms`);
});

void t.test('a log line lists unknown fields: at most 20, shortened', async (t) => {
  const server = await build(t, undefined, { keepsLog: true });
  const unknown = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`x${i}${'y'.repeat(100)}`, 1]));
  for (const more of [unknown, { user: 'known', stop: null }]) await server.ask(PATH, { ...prompt, ...more });
  await server.logged(2);
  const names = Object.keys(unknown).map((name) => name.slice(0, 64));
  const listed = (await server.logged(1, 'unknown fields ignored')).map(({ fields }) => fields);
  t.same(listed, [names.slice(0, 20)], 'no line for the request without unknown fields');
});

void t.test('protection headers for browsers are on every response, errors and streams included', async (t) => {
  const server = await build(t);
  for (const { headers } of [
    await server.get('/health'),
    await server.get('/nowhere'),
    await server.ask(PATH, { ...prompt, stream: true }),
    await server.ask(PATH, { ...prompt, temperature: 9 }),
  ])
    t.match(headers, {
      ...{ 'x-content-type-options': 'nosniff', 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer' },
      'x-request-id': String,
    });
});

void t.test('no client adds a label: unknown paths share one, and models and keys have none', async (t) => {
  const server = await build(t, undefined, { apiKeys: ['sesame'] });
  const headers = { authorization: 'Bearer sesame' };
  for (let i = 0; i < 20; i++) {
    await server.get(`/stranger-${i}?q=stranger`);
    await server.get(`/v1/models/stranger-${i}`, { headers });
    await server.ask(PATH, { ...prompt, model: `stranger-${i}`, user: 'stranger' }, headers);
    await server.ask(PATH, { ...prompt, user: 'stranger' }, { ...headers, 'x-request-id': 'stranger' });
    await server.ask(PATH, prompt, { authorization: `Bearer stranger-${i}` });
  }
  const { text } = await server.get('/metrics');
  t.notMatch(text, /stranger|sesame/);
  const routes = new Set([...text.matchAll(/http_requests_total\{.*route="([^"]*)"/g)].map(([, route]) => route));
  // Routes with a body have a series from the start.
  const answers = [PATH, '/v1/chat/completions', '/v1/responses', '/v1/messages'];
  const posts = [...answers, '/v1/responses/input_tokens', '/v1/messages/count_tokens', '/tokenize', '/detokenize'];
  t.same(routes, new Set(['unknown', '/v1/models/:model', ...posts]));
});

void t.test('API keys: either header works, several keys work, health and metrics stay open', async (t) => {
  const server = await build(t, undefined, { apiKeys: ['alpha', 'beta'] });
  const right: Record<string, string>[] = [
    { authorization: 'Bearer alpha' },
    { authorization: 'bearer beta' },
    { 'x-api-key': 'beta' },
    { authorization: 'Bearer made-up', 'x-api-key': 'beta' },
    { authorization: 'Bearer alpha', 'x-api-key': 'made-up' },
  ];
  const wrong = [{}, { authorization: 'Bearer alph' }, { authorization: 'Basic alpha' }, { 'x-api-key': '' }];
  for (const headers of right) t.equal((await server.ask(PATH, prompt, headers)).status, 200);
  for (const headers of wrong as Record<string, string>[]) {
    const error = { type: 'authentication_error', code: 'invalid_api_key', param: null };
    const rejected = { status: 401, headers: { 'www-authenticate': 'Bearer' }, body: { error } };
    t.match(await server.ask(PATH, prompt, headers), rejected);
  }
  for (const path of ['/v1/models', '/props', '/v1/models/fake', '/v1/models/org/name'])
    t.equal((await server.get(path)).status, 401, path);
  for (const path of ['/health', '/health/ready', '/metrics', '/version', '/openapi.json'])
    t.equal((await server.get(path)).status, 200, path);
});

void t.test('CORS is off by default and on for named origins', async (t) => {
  const origin = 'https://app.example';
  const allowed = 'access-control-allow-origin';
  const headers = { origin, 'access-control-request-method': 'POST' };
  t.notOk(allowed in (await (await build(t)).get('/health', { headers })).headers);
  const open = await build(t, undefined, { options: { corsOrigin: [origin] } });
  const stream = await open.ask(PATH, { ...prompt, stream: true }, { origin });
  t.equal(stream.headers[allowed], origin, 'on streams too');
  t.equal((await open.get(PATH, { method: 'OPTIONS', headers })).status, 204);
  const plain = await open.get(PATH, { method: 'OPTIONS' });
  t.match(plain, { status: 204, text: /^$/ }, 'an OPTIONS that is not a preflight');
  const all = await build(t, undefined, { options: { corsOrigin: [origin, '*'] } });
  const anywhere = await all.get('/health', { headers: { origin: 'https://elsewhere.example' } });
  t.equal(anywhere.headers[allowed], '*', '* allows all origins');
});

void t.test('the document, its page and the playground need no network', async (t) => {
  const server = await build(t);
  const document = (await server.get('/openapi.json')).body as unknown as { openapi: string; paths: object };
  t.equal(document.openapi, '3.1.0');
  for (const path of [PATH, '/v1/chat/completions', '/v1/models', '/tokenize', '/health/ready', '/metrics'])
    t.ok(path in document.paths, path);
  const { text } = await server.get('/docs');
  t.notMatch(text, /(src|href)="https?:/);
  const script = /src="([^"]*swagger-ui-bundle.js)"/.exec(text)?.[1] ?? '';
  t.equal((await fetch(new URL(script, `${server.url}/docs/`))).status, 200);
  for (const path of ['/docs/static/nothing.js', '/docs/static/..%2f..%2fpackage.json', '/docs/nothing'])
    t.match(await server.get(path), { status: 404, body: { error: { code: 'route_not_found' } } }, path);
  const page = await server.get('/');
  t.match(page.headers, { 'content-type': /^text\/html/, 'content-security-policy': /default-src 'self'/ });
  t.notMatch(page.text, /https?:\/\//);
  for (const [, path = ''] of page.text.matchAll(/(?:src|href)="([^":]+)"/g))
    t.equal((await server.get(`/${path}`)).status, 200, path);
});

void t.test('props and version, with rounded times', async (t) => {
  const server = await build(t);
  const dry = { dry_multiplier: 8, dry_base: 2, dry_allowed_length: 3 };
  t.match((await server.get('/props')).body, {
    ...{ model: 'fake', kv_layers: 30, prompt_layers: 30 },
    exits: [{ layer: 10, dry }, { layer: 15 }, { layer: 20 }, { layer: 25 }, { layer: 30, dry: null }],
    limits: { max_model_len: 256, max_running: 4, max_choices: 64 },
    calibration: { load_ms: 1, calibrate_ms: 1, cost: [] },
  });
  t.same((await server.get('/version')).body, { version: '0.0.0-test' });
  // Measured times have at most three decimals.
  const point = { rows: 1, context: 0, ms: 1.5296879997476935 };
  const cost = { units: [{ unit: 'head', kernel: 'fp32', decode: [point], prefill: [point] }] };
  const architecture = { ...READY.architecture, sharing: { first: 15, ffn: 1536 } };
  server.engine.ready = { ...READY, architecture, promptLayers: 15, loadMs: 2341.96, calibrateMs: 854.2, cost };
  const { calibration, ...layers } = (await server.get('/props')).body as unknown as { calibration: object };
  t.match(layers, { kv_layers: 15, prompt_layers: 15 });
  const rounded = { ...point, ms: 1.53 };
  t.strictSame(calibration, {
    ...{ load_ms: 2342, calibrate_ms: 854 },
    cost: [{ unit: 'head', kernel: 'fp32', decode: [rounded], prefill: [rounded] }],
  });
});

void t.test('metrics move to the operations port; health is on both', async (t) => {
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
  const moved = ['/metrics', '/load'];
  const shared = ['/health', '/health/ready', '/v2/health/live', '/v2/health/ready', '/version'];
  t.same(await statuses(server.url, [...moved, '/docs/', '/openapi.json']), [404, 404, 200, 200]);
  t.same(await statuses(server.opsUrl, moved), [200, 200]);
  for (const url of [server.url, server.opsUrl]) t.same(new Set(await statuses(url, shared)), new Set([200]));
  t.same(
    await statuses(server.opsUrl, ['/v1/models', '/', '/docs/']),
    [404, 404, 404],
    'the operations port has nothing else',
  );
  const error = { type: 'not_found_error', code: 'route_not_found', param: null };
  t.match((await server.get('/metrics')).body, { error });
  t.match(await (await fetch(`${server.opsUrl}/metrics`)).text(), /^sortie_num_requests_running/m);
  server.context.draining = true;
  t.same(await statuses(server.opsUrl, ['/health', '/health/ready', '/metrics']), [200, 503, 200]);
  t.same(await statuses(server.url, ['/v2/health/live', '/v2/health/ready', '/v1/models']), [200, 503, 401]);
  const both = await build(t, undefined, { options: { opsPort: 0, mainMetrics: true } });
  t.same(await statuses(both.url, ['/metrics']), [200]);
  t.same(await statuses(both.opsUrl, ['/metrics']), [200]);
});
