/**
 * Every failure of a request in the form of the route's dialect: validation, framework, routes. Bytes that are not a
 * request get Fastify's own answers. The rules that differ between OpenAI's and Anthropic's clients are here as well.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { errorHeaders, HeadersOf, requestIdHeader } from '../api/schemas/headers.js';
import { ApiError, ClientGone, ERRORS, type ErrorCode, type ErrorKind, toApiError } from '../api/errors.js';
import { messagesError } from '../api/endpoints/messages/messages.js';
import { quoted } from '../../util/quoted.js';

export interface ApiDialect {
  /** The body of an error response. */
  errorBody(error: ApiError, requestId: string): object;
  /** The bytes that keep a silent stream open. */
  readonly keepAlive: string;
  /** A second name of X-Request-Id, which the dialect's clients read; null for none. */
  readonly idHeader: string | null;
}

const openai: ApiDialect = { errorBody: (error) => error.body(), keepAlive: ': keep-alive\n\n', idHeader: null };
const anthropic: ApiDialect = {
  errorBody: messagesError,
  keepAlive: 'event: ping\ndata: {"type":"ping"}\n\n',
  idHeader: 'request-id',
};

/** The dialect of the request's route. */
export const dialectOf = ({ routeOptions }: FastifyRequest): ApiDialect =>
  routeOptions.config.endpoint?.dialect === 'anthropic' ? anthropic : openai;

/** The client's X-Request-Id if it is one printable word, else a new id. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

/** Headers of every response: the request id, and protections for browsers. */
export function commonHeaders(request: FastifyRequest): HeadersOf<typeof requestIdHeader> & Record<string, string> {
  const { idHeader } = dialectOf(request);
  return {
    'x-request-id': request.id,
    ...(idHeader !== null && { [idHeader]: request.id }),
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
  };
}

interface Rule {
  readonly const?: unknown;
  readonly 'x-rule'?: string;
}

type ValidationError = NonNullable<FastifyError['validation']>[number] & {
  readonly data?: unknown;
  readonly parentSchema?: Rule & { readonly properties?: Readonly<Record<string, Rule>> };
};

/** "/messages/0/content" -> "messages[0].content". */
function parameter(path: string): string {
  return path
    .split('/')
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`))
    .join('')
    .replace(/^\./, '');
}

/** The name of a field of the object at that path. */
function fieldOf(path: string, name: unknown): string {
  return [parameter(path), String(name)].filter(Boolean).join('.');
}

function validationError(errors: readonly ValidationError[]): ApiError {
  // The error of a failed union comes after the errors of its members.
  const error = errors.findLast(({ keyword }) => keyword === 'anyOf') ?? errors[0];
  if (error === undefined) return new ApiError('invalid_value', 'The request body is not valid.');
  if (error.keyword === 'required') {
    const kind = otherKind(error);
    if (kind !== null) return kind;
    const missing = fieldOf(error.instancePath, error.params.missingProperty);
    return new ApiError('invalid_value', `${missing} is required.`, missing);
  }
  const param = parameter(error.instancePath);
  if (error.keyword === 'additionalProperties') {
    // The client made up this name, which may be as long as the body.
    const unknown = fieldOf(error.instancePath, String(error.params.additionalProperty).slice(0, 40));
    const known = Object.keys(error.parentSchema?.properties ?? {}).join(', ');
    return new ApiError(
      'unsupported_parameter',
      `${unknown} is not a parameter: ${param || 'the body'} takes ${known}.`,
      unknown,
    );
  }
  return brokenRule(param, error.parentSchema, error.data, error.message);
}

function brokenRule(param: string, rule: Rule | undefined, data: unknown, otherwise = 'must be valid'): ApiError {
  const must = rule?.['x-rule'] === undefined ? otherwise : `must be ${rule['x-rule']}`;
  return new ApiError('invalid_value', `${param || 'The body'} ${must}, got ${quoted(data)}.`, param || null);
}

/** The error on the field that states the kind of an object, if its value is wrong; a missing field only follows. */
function otherKind({ instancePath, data, parentSchema }: ValidationError): ApiError | null {
  for (const [name, rule] of Object.entries(parentSchema?.properties ?? {})) {
    const value = (data as Readonly<Record<string, unknown>>)[name];
    if (rule.const !== undefined && value !== undefined && value !== rule.const)
      return brokenRule(fieldOf(instancePath, name), rule, value, `must be ${JSON.stringify(rule.const)}`);
  }
  return null;
}

/** Fastify's error codes with a status of their own in the table. */
const FRAMEWORK: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: ['body_too_large', 'The request body is larger than this server accepts.'],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: [
    'unsupported_media_type',
    'The body must be JSON with content-type application/json.',
  ],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['invalid_json', 'The body is empty; it must be a JSON object.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ['bad_request', 'The body is not as long as content-length says.'],
  FST_ERR_BAD_URL: ['bad_request', 'The path is not a valid URL path.'],
};

export function asApiError(error: unknown): ApiError {
  if (!(error instanceof Error) || error instanceof ApiError) return toApiError(error);
  const { code, validation, statusCode } = error as Partial<FastifyError>;
  if (validation !== undefined) return validationError(validation);
  const known = FRAMEWORK[code ?? ''];
  if (known !== undefined) return new ApiError(...known);
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ApiError('bad_request', 'The request is malformed.');
  }
  return toApiError(error);
}

type Headers = Partial<HeadersOf<typeof errorHeaders>>;

/** Headers that go with an error. Retry-After has whole seconds; OpenAI's SDKs prefer the header in milliseconds. */
export function headersOf({ code, retryAfterMs: ms, status }: ApiError): Headers {
  const { isFinal }: ErrorKind = ERRORS[code];
  return {
    ...(isFinal === true && { 'x-should-retry': 'false' }),
    ...(ms !== null && { 'retry-after': String(Math.ceil(ms / 1000)), 'retry-after-ms': String(Math.ceil(ms)) }),
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
  };
}

/** Fastify's error handler. It also serves errors before routing. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const answer = asApiError(error);
  if (answer.status === 500) request.log.error({ err: error }, 'request failed');
  Object.assign(request.logFields, answer.logged());
  // No hook has run before routing, so the common headers are set here as well.
  void reply
    .code(answer.status)
    .headers({ ...commonHeaders(request), ...headersOf(answer) })
    .send(dialectOf(request).errorBody(answer, request.id));
}

/** The paths of a route: `:name` is a part, and a `*` at the end any parts. CORS has all paths, `*`: no route. */
function pathsOf(url: string): RegExp {
  const literal = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${literal.replace(/:\w+/g, '[^/]+').replace(/\/\\\*$/, '/.+')}$`);
}

/** Installs the handlers, and tells 405 from 404 by the routes that it sees. */
export function registerErrors(app: FastifyInstance): void {
  const routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  // Node.js 20.19.2 parses QUERY, but its list of method names lacks it.
  app.server.prependListener('request', (request) => {
    request.method ??= 'QUERY';
  });
  app.addHook('onRoute', ({ url, method }) => {
    routes.push({ pattern: pathsOf(url), methods: [method].flat() });
  });
  const noRoute = ({ method, url }: FastifyRequest, reply: FastifyReply): ApiError => {
    const path = url.split('?')[0] ?? '';
    const matching = routes.filter(({ pattern }) => pattern.test(path));
    const allowed = [...new Set(matching.flatMap(({ methods }) => methods))];
    const name = method.slice(0, 40);
    // A route that takes the method has no such file.
    if (allowed.length === 0 || allowed.includes(method))
      return new ApiError('route_not_found', `There is no ${name} ${quoted(path)} here.`);
    void reply.headers({ allow: allowed.join(', ') } satisfies Headers);
    return new ApiError('method_not_allowed', `${name} is not allowed here; use ${allowed.join(' or ')}.`);
  };
  app.setErrorHandler((error, request, reply) => {
    if (error instanceof ClientGone) {
      reply.hijack();
      return;
    }
    const { code } = error as Partial<FastifyError | ApiError>;
    // Fastify closes the connection after a body that it did not accept. Closing with unread bytes resets it, and the
    // client may lose the response. On an open connection, Node.js reads the remaining bytes.
    const isOfBody = code === 'invalid_json' || code?.startsWith('FST_ERR_CTP_') === true;
    if (isOfBody) reply.removeHeader('connection');
    // Fastify asks QUERY for a content type before it looks for a route; no route here takes QUERY.
    const early = code === 'FST_ERR_ROUTE_MISSING_CONTENT_TYPE';
    sendError(early ? noRoute(request, reply) : error, request, reply);
  });
  // For a route that finds no file, such as those of /docs.
  app.setNotFoundHandler((request, reply) => {
    sendError(noRoute(request, reply), request, reply);
  });
  // Fastify's own handler comes after the body: an upload to a path that is not here would be told to be JSON.
  app.addHook('preParsing', (request, reply, _payload, done) => {
    if (request.is404) throw noRoute(request, reply);
    done();
  });
}
