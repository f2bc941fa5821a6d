/**
 * Bounds the sum of the request bodies that are arriving: their bytes stay in memory until the last one is there.
 *
 * Tenants share the sum. Must not know: what a body holds.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { Shares } from '../../util/shares.js';
import { onClosed } from '../response-lifecycle.js';

/** Largest bodies that a tenant alone may have on their way. All tenants together have under twice as many. */
const MOST_BODIES = 16;

/** @param maxBody largest body, bytes; a body of an unknown length counts as one */
export function registerBodySum(app: FastifyInstance, maxBody: number): void {
  const shares = new Shares(MOST_BODIES * maxBody);
  /** Gives back the bytes of a request's body. */
  const held = new WeakMap<FastifyRequest, () => void>();
  app.addHook('preParsing', (request, reply, _payload, done) => {
    const stated = Number(request.headers['content-length'] ?? maxBody);
    const bytes = Math.min(maxBody, stated);
    const { tenant } = request.caller;
    if (bytes > shares.room(tenant)) {
      const message = `Bodies of ${shares.held(tenant)} bytes are on their way; try again shortly.`;
      throw new ApiError('overloaded', message, null, {}, 1000);
    }
    shares.take(tenant, bytes);
    let isHeld = true;
    const give = (): void => {
      if (isHeld) shares.give(tenant, bytes);
      isHeld = false;
    };
    held.set(request, give);
    onClosed(reply, give);
    done();
  });
  app.addHook('preValidation', (request, _reply, done) => {
    held.get(request)?.();
    done();
  });
}
