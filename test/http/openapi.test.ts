import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AjvCompiler } from '@fastify/ajv-compiler';
import type { RouteOptions } from 'fastify';
import t from 'tap';
import { VERSION } from '../../src/cli/cli.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { createServer } from '../../src/gateway/http/create-server.js';
import { openapiDocument } from '../../src/gateway/http/openapi.js';
import { registerEndpoints } from '../../src/gateway/http/routes/endpoints.js';
import { build } from '../fakes/server.js';

void t.test('the committed document equals the one that the schemas generate (npm run openapi)', async (t) => {
  t.equal(readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8'), await openapiDocument(VERSION));
});

void t.test('the document has examples with a budget', (t) => {
  const text = readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8');
  t.match(text, /"x-latency-budget-ms"/);
  t.match(text, /"latency_budget_ms": 200/);
  t.end();
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
