/**
 * Bodies before validation: `null` for an optional field is the same as leaving it out (clients send `stop: null`), and
 * unknown fields are told to the log (SDKs add fields).
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';

/** Where an optional object may itself hold nulls. */
const NESTED = ['stream_options', 'sortie'];
/** A caller can't fill the log with names. */
const MAX_LOGGED = 20;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function withoutNulls(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
}

/** Names of fields that the route's schema does not have. */
function unknownFields(request: FastifyRequest, body: Record<string, unknown>): string[] {
  const schema = request.routeOptions.schema?.body as { properties?: Record<string, unknown> } | undefined;
  const known = schema?.properties;
  return known === undefined ? [] : Object.keys(body).filter((key) => !(key in known));
}

export function registerBody(app: FastifyInstance): void {
  app.addHook('preValidation', (request, _reply, done) => {
    if (isObject(request.body)) {
      const clean = withoutNulls(request.body);
      for (const field of NESTED) if (isObject(clean[field])) clean[field] = withoutNulls(clean[field]);
      request.body = clean;
      const unknown = unknownFields(request, clean);
      const fields = unknown.slice(0, MAX_LOGGED).map((key) => key.slice(0, 64));
      if (fields.length > 0) request.log.info({ fields }, 'unknown fields ignored');
    }
    done();
  });
}
