/**
 * A Fastify app with the parts that every port of the server has: limits, errors in OpenAI's form, headers, access log.
 */
import { AjvCompiler } from '@fastify/ajv-compiler';
import { fastify, LogController, type FastifyInstance } from 'fastify';
import { hostAllowed } from './allowed-hosts.js';
import { registerJson } from './body.js';
import type { GatewayContext, Step } from './context.js';
import { commonHeaders, registerErrors, requestId, sendError } from './errors.js';
import { forwardedOf, trustRule } from './forwarded.js';
import { logged } from './request-log.js';
import { OpenResponses } from './responses.js';

/** Shared by all apps of the process: compiling the schemas of all routes takes 0.1 s. */
const buildValidator = AjvCompiler();

const fastifyOptions = ({ options, log }: GatewayContext) => ({
  loggerInstance: log,
  // request-log.ts writes one line per request instead of Fastify's two.
  logController: new LogController({ disableRequestLogging: true }),
  requestIdHeader: false as const,
  genReqId: requestId,
  bodyLimit: options.maxBody,
  requestTimeout: options.requestTimeout * 1000,
  http: {
    // Node.js checks for late requests at this interval (default 30 s).
    connectionsCheckingInterval: Math.min(5000, options.requestTimeout * 500),
    headersTimeout: options.requestTimeout * 1000,
  },
  return503OnClosing: false,
  // For Node.js a connection that has sent nothing is not idle, so a close would wait for it for ever.
  forceCloseConnections: true as const,
  schemaController: { compilersFactory: { buildValidator } },
  ajv: {
    // Bodies are checked as they are, and never changed.
    customOptions: {
      coerceTypes: false as const,
      removeAdditional: false,
      useDefaults: false,
      strict: false,
      // The schemas are our own; openapi.test.ts checks them against the meta-schema. Its compilation, and Ajv's own
      // optimization of code that V8 optimizes again, would take 0.2 s of each start.
      meta: false,
      validateSchema: false,
      code: { optimize: false },
      // Error messages quote the offending value, shortened.
      verbose: true,
    },
  },
});

/** The fields of a request: V8 gives all requests one shape. */
const DECORATIONS = [
  ...(['forwarded', 'response', 'caller', 'logFields', 'answer', 'cancelFields', 'trace', 'bodyArrived'] as const),
];

/** Runs steps on each request that arrives, in one hook: a hook of its own costs each of them microseconds. */
export function onArrival(app: FastifyInstance, steps: readonly Step[]): void {
  app.addHook('onRequest', (request, reply, done) => {
    for (const step of steps) step(request, reply);
    done();
  });
}

/** @param needsKey whether requests need a key, where the server has keys */
export function createServer(context: GatewayContext, needsKey = true): FastifyInstance {
  const { options, apiKeys, series } = context;
  const isTrusted = trustRule(options.trustedProxies);
  // A request with an unreadable path runs no hook.
  const begun: Step[] = [
    (request, reply) => {
      request.forwarded = forwardedOf(request, reply, isTrusted);
      app.responses.watch(request, reply.raw);
    },
    logged(context),
  ];
  const app = fastify({
    ...fastifyOptions(context),
    frameworkErrors: (error, request, reply) => {
      for (const step of begun) step(request, reply);
      sendError(error, request, reply);
    },
  }) as unknown as FastifyInstance;
  const responses = new OpenResponses(app.server, options.maxConnections, options.stallTimeout * 1000);
  app.decorate('responses', responses);
  app.addHook('onClose', (_app, done) => {
    responses.close();
    done();
  });
  // Schemas describe answers and must not rewrite them: Fastify's serializer turns null into "" or {}.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.removeContentTypeParser('text/plain');
  registerJson(app);
  registerErrors(app);
  for (const name of DECORATIONS) app.decorateRequest(name);
  // The count of faults starts at 0: an alert asks for an increase, and a new series shows none at its first fault.
  // Only POST routes start, since a GET handler can hardly fail.
  app.addHook('onRoute', ({ method, url }) => {
    if (method === 'POST') series.httpRequests.inc({ method, route: url, status: '500' }, 0);
  });
  // The access log comes before all checks, so that a request rejected by a later step is logged as well.
  const headed: Step = (request, reply) => void reply.headers(commonHeaders(request));
  onArrival(app, [...begun, headed, hostAllowed(context, needsKey && apiKeys.length > 0)]);
  return app;
}
