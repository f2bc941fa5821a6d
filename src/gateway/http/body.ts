/**
 * Bounds request bodies that arrive, and checks and cleans them before validation.
 * - `null` for an optional field equals a missing field (clients send `stop: null`).
 * - Unknown fields go to the log: SDKs add fields.
 * - Compressed bodies are rejected; the JSON parser rejects very deep ones.
 *
 * JSON bodies: parsed as Fastify does, with an error message that names the fault, and in bounded time.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../api/errors.js';
import { quoted } from '../../util/quoted.js';
import { FairQuota } from '../../util/fair-quota.js';
import { jsonSize } from '../../util/json-size.js';
import { isUtf8 } from 'node:buffer';
import { MAX_NESTING } from '../api/params/value-limits.js';

/** Most unknown fields in one log line: a client must not fill the log. */
const MAX_LOGGED = 20;

/** Every route has less than a tenth of this. Reading fields one by one must not delay other requests. */
const MAX_FIELDS = 1000;

/** The parts of a route's schema that this file reads. */
interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether values of this schema may have optional fields. Lists of token ids need no walk. */
function hasFields({ properties, items, anyOf }: Schema): boolean {
  return properties !== undefined || (items !== undefined && hasFields(items)) || (anyOf?.some(hasFields) ?? false);
}

/** Removes the nulls of optional fields, as deep as the schema goes. Parts that the schema leaves open stay. */
function withoutNulls(value: unknown, schema: Schema): unknown {
  if (!hasFields(schema)) return value;
  const { properties, required, items, anyOf } = schema;
  if (anyOf !== undefined) return anyOf.reduce(withoutNulls, value);
  if (Array.isArray(value)) return items === undefined ? value : value.map((item) => withoutNulls(item, items));
  if (!isObject(value) || properties === undefined) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, field]) => field !== null || required?.includes(key))
      .map(([key, field]) => [key, withoutNulls(field, properties[key] ?? {})]),
  );
}

/** @throws ApiError invalid_value */
function rejectMany(body: object): void {
  const { length } = Object.keys(body);
  if (length <= MAX_FIELDS) return;
  throw new ApiError('invalid_value', `The body must have at most ${MAX_FIELDS} fields, got ${length}.`);
}

/** Logs the fields that the route's schema does not have. */
function logUnknown(request: FastifyRequest, body: object, properties: object): void {
  const unknown = Object.keys(body).filter((key) => !(key in properties));
  const fields = unknown.slice(0, MAX_LOGGED).map((key) => key.slice(0, 64));
  if (fields.length > 0) request.log.info({ fields }, 'unknown fields ignored');
}

/** Largest bodies that a tenant alone may have on their way. All tenants together have under twice as many. */
const MOST_BODIES = 16;

/**
 * Bounds the sum of the request bodies that are arriving: their bytes stay in memory until the last one is there.
 * Tenants share the sum.
 * @param maxBody largest body, bytes; a body of an unknown length counts as one
 */
export function registerArrival(app: FastifyInstance, maxBody: number): void {
  const shares = new FairQuota(MOST_BODIES * maxBody);
  app.addHook('preParsing', (request, _reply, _payload, done) => {
    const { headers, caller, response } = request;
    const { tenant } = caller;
    const bytes = Math.min(maxBody, Number(headers['content-length'] ?? maxBody));
    if (bytes > shares.available(tenant)) {
      const message = `Bodies of ${shares.held(tenant)} bytes are on their way; try again shortly.`;
      throw new ApiError('overloaded', message, null, {}, 1000);
    }
    shares.acquire(tenant, bytes);
    request.bodyArrived = () => {
      request.bodyArrived = null;
      shares.release(tenant, bytes);
    };
    response.onClosed(() => request.bodyArrived?.());
    const encoding = headers['content-encoding'];
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
      const message = `The body must be sent uncompressed, without content-encoding, got ${quoted(encoding)}.`;
      throw new ApiError('unsupported_media_type', message, 'content-encoding');
    }
    done();
  });
  app.addHook('preValidation', (request, _reply, done) => {
    request.bodyArrived?.();
    done();
  });
}

/** Cleans the bodies that the schemas of routes check. */
export function registerBody(app: FastifyInstance): void {
  app.addHook('preValidation', (request, _reply, done) => {
    const schema = request.routeOptions.schema?.body as Schema | undefined;
    if (schema !== undefined) {
      if (isObject(request.body)) rejectMany(request.body);
      request.body = withoutNulls(request.body, schema);
      if (isObject(request.body)) logUnknown(request, request.body, schema.properties ?? {});
    }
    done();
  });
}

/** Most objects and arrays, and most commas: JSON.parse takes .1 s for each megabyte of them. */
const MAX_CONTAINERS = 50_000;
const MAX_COMMAS = 300_000;

/**
 * Bounds the time that JSON.parse needs, in which no other request is served. It accepts texts that are not JSON.
 * @throws ApiError invalid_value for a text with too many levels or values
 */
function checkSize(json: string): void {
  const { levels, containers, commas } = jsonSize(json);
  // The body itself is a level.
  if (levels > MAX_NESTING + 1) throw tooLarge(`be nested at most ${MAX_NESTING} deep`);
  if (containers > MAX_CONTAINERS) throw tooLarge(`have at most ${MAX_CONTAINERS} objects and arrays`);
  if (commas > MAX_COMMAS) throw tooLarge(`have at most ${MAX_COMMAS} commas`);
}

function tooLarge(rule: string): ApiError {
  return new ApiError('invalid_value', `The body must ${rule}.`);
}

/** The fault of a body that was not parsed, by Node.js. It may quote a few characters of the text. */
function faultOf(text: string): string {
  try {
    JSON.parse(text);
    return 'has a key named __proto__, or prototype within constructor, which no body may have';
  } catch (error) {
    return `is not valid JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}

export function registerJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<Buffer>('application/json', { parseAs: 'buffer' }, (request: FastifyRequest, body, done) => {
    if (!isUtf8(body)) throw new ApiError('invalid_json', 'The body is not valid JSON: its bytes are not UTF-8.');
    const text = body.toString('utf8');
    checkSize(text);
    void parse(request, text, (error, value) => {
      if (error === null || text === '') done(error, value);
      else done(new ApiError('invalid_json', `The body ${faultOf(text)}.`));
    });
  });
}
