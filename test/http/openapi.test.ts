import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AjvCompiler } from '@fastify/ajv-compiler';
import type { RouteOptions } from 'fastify';
import t, { type Test } from 'tap';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { VERSION } from '../../src/cli/cli.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { createServer } from '../../src/gateway/http/create-server.js';
import { openapiDocument } from '../../src/gateway/http/openapi.js';
import { registerEndpoints } from '../../src/gateway/http/routes/endpoints.js';
import { build, type TestServer } from '../fakes/server.js';
import { openKey } from '../../src/gateway/http/keys.js';
import { EncodingRejected } from '../../src/gateway/text/encoding/encoding-thread.js';
import type { FakeEngine } from '../fakes/engine.js';
import { scriptedUpstream, upstream } from '../fakes/upstream.js';

void t.test('the committed document equals the one that the schemas generate (npm run openapi)', async (t) => {
  t.equal(readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8'), await openapiDocument(VERSION));
});

void t.test("the schemas of the routes fit JSON Schema's meta-schema, which the server does not check", async (t) => {
  const { context } = await build(t);
  const routes: RouteOptions[] = [];
  const app = createServer(context);
  app.addHook('onRoute', (route) => {
    routes.push(route);
  });
  registerEndpoints(app, context);
  const compile = AjvCompiler()({}, { customOptions: { strict: false } });
  const schemas = routes.flatMap(({ schema, ...route }) =>
    (['body', 'params', 'querystring', 'headers'] as const).flatMap((httpPart) =>
      schema?.[httpPart] === undefined ? [] : [{ ...route, schema: schema[httpPart], httpPart }],
    ),
  );
  t.ok(schemas.length >= 8, `${schemas.length} schemas`);
  for (const { schema, method, url, httpPart } of schemas)
    t.doesNotThrow(
      () => compile({ schema, method: String(method), url, httpPart }),
      `${String(method)} ${url} ${httpPart}`,
    );
  t.throws(
    () => compile({ schema: { type: 'nonsense' }, method: 'GET', url: '/', httpPart: 'body' }),
    /schema is invalid/,
  );
  await app.close();
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

/** A text without a boundary, which another thread tokenizes. */
const LONG = 'x'.repeat(10_000);

const authorization = { authorization: 'Bearer sesame' };
const jsonType = { 'content-type': 'application/json' };

const reject = (reason: 'queue_full' | 'budget_infeasible' | 'unknown_token') => () => ({
  tokens: [],
  reject: { reason, leastFeasibleMs: null },
});

/** Provokes a status on a path. The fields are the differences from the request that gets a 200. */
interface Provocation {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: object;
  /** The same, by path. */
  readonly bodyOf?: (path: string) => object;
  readonly script?: FakeEngine['script'];
  readonly first?: (server: TestServer) => void;
}

const PROVOKED: Readonly<Record<string, Provocation>> = {
  200: {},
  400: { body: { model: 1, prompt: 1, messages: 1, tokens: 1 } },
  401: { headers: jsonType },
  404: { path: '/v1/models/gpt-9', body: { model: 'gpt-9' } },
  405: { method: 'DELETE', headers: authorization },
  413: { body: { prompt: 'x'.repeat(20_000) } },
  415: { headers: { ...authorization, 'content-type': 'text/plain' } },
  429: {
    bodyOf: (path) => {
      if (path === '/tokenize') return { prompt: LONG };
      return path.startsWith('/v1/responses') ? { input: LONG } : { messages: [{ role: 'user', content: LONG }] };
    },
    first: ({ context, engine }) => {
      if (engine.ready !== null) engine.ready = { ...engine.ready, maxLength: 8192 };
      context.api.encoding.encode = () => Promise.reject(new EncodingRejected('full'));
    },
  },
  500: {
    body: { model: 'fake' },
    first: ({ context }) => {
      Object.defineProperty(context.api.model, 'name', {
        get() {
          throw new Error('broken');
        },
      });
    },
  },
  503: {
    first: ({ engine }) => {
      engine.ready = null;
    },
  },
};

/**
 * Provocations on paths that generate. They come after the key's tokens are counted where possible, so that all limit
 * headers are present.
 */
const GENERATION: Readonly<Record<string, Provocation>> = {
  ...PROVOKED,
  200: { body: { strean: false } },
  400: { script: reject('unknown_token') },
  429: { script: reject('queue_full') },
  500: { script: () => ({ tokens: [], end: 'error' }) },
  502: { script: () => ({ tokens: [1], loseAfter: 0 }) },
  503: { script: reject('budget_infeasible') },
  504: { body: { model: 'big', sortie: { latency_budget_ms: 100 } } },
};

/** @param more further fields of the body */
function ask(server: TestServer, { path, method }: Place, provocation: Provocation, more: object): Promise<Response> {
  const body = BODIES[path];
  const asked = provocation.bodyOf?.(path) ?? provocation.body;
  const name = body === undefined ? (provocation.path ?? path.replace('{model}', 'fake')) : path;
  return fetch(server.url + name, {
    method: provocation.method ?? method,
    headers: provocation.headers ?? { ...authorization, ...jsonType },
    ...(body !== undefined &&
      provocation.method === undefined && { body: JSON.stringify({ ...body, ...asked, ...more }) }),
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

/** @param generates whether to test the operations that generate, or the other ones */
async function tryAll(t: Test, generates: boolean): Promise<void> {
  const places = placesOf(await build(t)).filter(({ path }) => GENERATING.includes(path) === generates);
  /** Headers that some response had, by operation. */
  const seen = new Map(places.map(({ operation }) => [operation.operationId, new Set<string>()]));
  for (const [status, provocation] of Object.entries(generates ? GENERATION : PROVOKED))
    await t.test(status, async (t) => {
      const silent = await scriptedUpstream(t, () => undefined);
      const server = await build(t, provocation.script, {
        upstreams: [{ ...upstream, url: silent.url }],
        apiKeys: [limited],
        options: { maxBody: 16_384 },
      });
      provocation.first?.(server);
      for (const place of places) {
        const { operationId, responses } = place.operation;
        for (const more of generates ? [{}, { stream: true }] : [{}])
          await t.test(operationId + JSON.stringify(more), async (t) => {
            const response = await ask(server, place, provocation, more);
            await response.text();
            if (generates) t.equal(response.status, Number(status));
            const declared = responses[response.status === 200 ? '200' : 'default'];
            // The text of /metrics has no error of its own.
            if (declared === undefined) return;
            for (const name of check(t, response, declared)) seen.get(operationId)?.add(name);
          });
      }
    });
  if (!generates) return;
  for (const { operation } of places) {
    const declared = Object.values(operation.responses).flatMap(({ headers = {} }) => Object.keys(headers));
    t.same([...(seen.get(operation.operationId) ?? [])].sort(), [...new Set(declared)].sort(), operation.operationId);
  }
}

void t.test('responses of routes that generate have the declared headers', (t) => tryAll(t, true));

void t.test('responses of all other routes have declared headers', (t) => tryAll(t, false));

void t.test('a page of another origin may read the headers that describe an answer', async (t) => {
  const server = await build(t, undefined, { options: { corsOrigin: ['https://a.b'] } });
  const place = placesOf(server).find(({ path }) => path === '/v1/completions');
  const response = await server.post('/v1/completions', { prompt: 'Hello' }, { origin: 'https://a.b' });
  const exposed = response.headers.get('access-control-expose-headers')?.split(', ') ?? [];
  const declared = Object.values(place?.operation.responses ?? {}).flatMap(({ headers = {} }) => Object.keys(headers));
  t.same(exposed.sort(), [...new Set(declared)].sort());
});
