/** API keys: hashed in memory, compared in constant time. Asked for on routes with `config.protected`. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../../errors.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs an API key where any are configured. */
    protected?: boolean;
    /** Is refused while the server drains. */
    inference?: boolean;
  }
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function presentedKey(request: FastifyRequest): string | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
  const header = request.headers['x-api-key'];
  return bearer ?? (typeof header === 'string' ? header : null);
}

/** @param keys none: every request passes */
export function registerAuth(app: FastifyInstance, keys: readonly string[]): void {
  if (keys.length === 0) return;
  const digests = keys.map(digest);
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.routeOptions.config.protected === true) check(request);
    done();
  });

  function check(request: FastifyRequest): void {
    const key = presentedKey(request);
    if (key === null) {
      const how = 'Authorization: Bearer KEY or X-Api-Key: KEY';
      throw new ApiError('invalid_api_key', `This server asks for an API key (${how}).`);
    }
    const presented = digest(key);
    // Every key is compared, so that time tells nothing about which one was near.
    const matches = digests.filter((known) => timingSafeEqual(known, presented));
    if (matches.length === 0) throw new ApiError('invalid_api_key', 'The API key is wrong.');
  }
}
