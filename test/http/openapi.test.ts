import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { VERSION } from '../../src/cli/cli.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { openapiDocument } from '../../src/gateway/http/app.js';
import { build, type TestServer } from '../fakes/server.js';
import { openKey } from '../../src/gateway/http/keys.js';
import type { FakeEngine } from '../fakes/engine.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';

void t.test('the committed document equals the one that the schemas generate (npm run openapi)', async (t) => {
  t.equal(readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8'), await openapiDocument(VERSION));
});

// openapi.json against the server: provokes each documented response and compares its headers with the declared ones.

interface Declared {
  readonly headers?: Readonly<Record<string, { readonly schema: TSchema; readonly description?: string }>>;
}

interface Operation {
  readonly operationId: string;
  readonly responses: Readonly<Record<string, Declared>>;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** An operation of the document, and its place. */
interface Place {
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
}

function placesOf({ app }: TestServer): Place[] {
  const { paths } = app.swagger() as unknown as Document;
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([name, operation]) => ({ path, method: name.toUpperCase(), operation })),
  );
}

/** Headers that Node.js and Fastify send by themselves. OpenAPI describes Content-Type by the names of `content`. */
const FRAMEWORK = ['connection', 'content-length', 'content-type', 'date', 'keep-alive', 'transfer-encoding'];

/** Headers for browsers and proxies, not for clients. */
const BETWEEN = ['cache-control', 'referrer-policy', 'x-accel-buffering', 'x-content-type-options', 'x-frame-options'];

/** The body of a request that gets a 200, by path. */
const BODIES: Readonly<Record<string, object>> = {
  '/v1/completions': { prompt: 'Hello' },
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'Hello' }] },
  '/v1/responses': { input: 'Hello' },
  '/v1/messages': { model: 'fake', max_tokens: 8, messages: [{ role: 'user', content: 'Hello' }] },
  '/v1/responses/input_tokens': { input: 'Hello' },
  '/v1/messages/count_tokens': { model: 'fake', messages: [{ role: 'user', content: 'Hello' }] },
  '/tokenize': { prompt: 'Hello' },
  '/detokenize': { tokens: [1] },
};

const limited = {
  ...openKey('sesame'),
  limits: { requestsPerMinute: 1000, tokensPerMinute: 1000, requestsInFlight: null },
};

const authorization = { authorization: 'Bearer sesame' };
const jsonType = { 'content-type': 'application/json' };

const reject = (reason: 'queue_full' | 'budget_infeasible' | 'unknown_token') => () => ({
  tokens: [],
  reject: { reason, leastFeasibleMs: null },
});

/** Provokes a status on a path that generates. The fields are the differences from the request that gets a 200. */
interface Provocation {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: object;
  readonly script?: FakeEngine['script'];
}

/** They come after the key's tokens are counted where possible, so that all limit headers are present. */
const PROVOKED: Readonly<Record<string, Provocation>> = {
  200: { body: { strean: false } },
  400: { script: reject('unknown_token') },
  401: { headers: jsonType },
  404: { body: { model: 'gpt-9' } },
  405: { method: 'DELETE', headers: authorization },
  413: { body: { prompt: 'x'.repeat(20_000) } },
  415: { headers: { ...authorization, 'content-type': 'text/plain' } },
  429: { script: reject('queue_full') },
  500: { script: () => ({ tokens: [], end: 'error' }) },
  502: { script: () => ({ tokens: [1], loseAfter: 0 }) },
  503: { script: reject('budget_infeasible') },
  504: { body: { model: 'big', sortie: { latency_budget_ms: 100 } } },
};

/** Asks an operation. @param more further fields of the body */
function ask({ url }: TestServer, { path, method }: Place, provocation: Provocation, more = {}): Promise<Response> {
  const body = provocation.method === undefined ? BODIES[path] : undefined;
  return fetch(url + path.replace('{model}', 'fake'), {
    method: provocation.method ?? method,
    headers: provocation.headers ?? { ...authorization, ...jsonType },
    ...(body !== undefined && { body: JSON.stringify({ ...body, ...provocation.body, ...more }) }),
  });
}

/** The paths whose answers the engine generates. */
const GENERATING = ['/v1/completions', '/v1/chat/completions', '/v1/responses', '/v1/messages'];

/** Checks that the response has declared headers alone, with valid values. @returns their names */
function check(t: Test, response: Response, { headers: declared = {} }: Declared): string[] {
  const sent = [...response.headers.keys()].filter((name) => !FRAMEWORK.includes(name) && !BETWEEN.includes(name));
  for (const name of sent) {
    const text = response.headers.get(name) ?? '';
    const schema = declared[name]?.schema ?? {};
    const isNumber = 'type' in schema && (schema.type === 'integer' || schema.type === 'number');
    t.ok(name in declared && Value.Check(schema, isNumber ? Number(text) : text), `${name}: ${text}`);
    t.ok(declared[name]?.description, `${name} is described`);
  }
  return sent;
}

async function served(t: Test, script?: FakeEngine['script']): Promise<TestServer> {
  const silent = await scriptedUpstream(t, () => undefined);
  const upstreams = [{ ...upstream, url: silent.url }];
  return build(t, script, { upstreams, apiKeys: [limited], options: { maxBody: 16_384 } });
}

const places = placesOf(await build(t));
const generating = places.filter(({ path }) => GENERATING.includes(path));

void t.test('responses of routes that generate have declared headers, and each of these occurs', async (t) => {
  const seen = new Map(generating.map(({ operation }) => [operation, new Set<string>()]));
  for (const [status, provocation] of Object.entries(PROVOKED)) {
    const server = await served(t, provocation.script);
    for (const place of generating)
      for (const more of [{}, { stream: true }])
        await t.test(`${place.operation.operationId} ${status} ${JSON.stringify(more)}`, async (t) => {
          const { operation } = place;
          const response = await ask(server, place, provocation, more);
          await response.text();
          t.equal(response.status, Number(status));
          const declared = operation.responses[status === '200' ? '200' : 'default'] ?? {};
          for (const name of check(t, response, declared)) seen.get(operation)?.add(name);
        });
  }
  for (const [{ operationId, responses }, names] of seen) {
    const declared = Object.values(responses).flatMap(({ headers = {} }) => Object.keys(headers));
    t.same([...names].sort(), [...new Set(declared)].sort(), operationId);
  }
});

void t.test('good responses of all other routes have declared headers', async (t) => {
  const server = await served(t);
  for (const place of places.filter((each) => !generating.includes(each))) {
    const response = await ask(server, place, {});
    await response.text();
    t.equal(response.status, 200, place.path);
    check(t, response, place.operation.responses[200] ?? {});
  }
});

void t.test('a page of another origin may read the headers that describe an answer', async (t) => {
  const server = await build(t, undefined, { options: { corsOrigin: ['https://a.b'] } });
  const place = placesOf(server).find(({ path }) => path === '/v1/completions');
  const response = await server.post('/v1/completions', { prompt: 'Hello' }, { origin: 'https://a.b' });
  const exposed = response.headers.get('access-control-expose-headers')?.split(', ') ?? [];
  const declared = Object.values(place?.operation.responses ?? {}).flatMap(({ headers = {} }) => Object.keys(headers));
  t.same(exposed.sort(), [...new Set(declared)].sort());
});
