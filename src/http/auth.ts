/** API keys: hashed in memory, compared in constant time. Asked for on routes with `config.protected`. */
import { timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../api/errors.js';
import { keyDigest, type ApiKey } from './keys.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Needs an API key where any are configured. */
    protected?: boolean;
    /** Is refused while the server drains. */
    inference?: boolean;
  }
  interface FastifyRequest {
    /** Null where none was asked for. */
    apiKey: ApiKey | null;
  }
}

/** In both headers: SDKs always send a Bearer token, and be it a made-up one beside the caller's own X-Api-Key. */
function presentedKeys(request: FastifyRequest): string[] {
  const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
  return [bearer, request.headers['x-api-key']].filter((text) => typeof text === 'string');
}

/** @param keys none: every request passes */
export function registerAuth(app: FastifyInstance, keys: readonly ApiKey[]): void {
  app.decorateRequest('apiKey', null);
  if (keys.length === 0) return;
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.routeOptions.config.protected === true) request.apiKey = keyOf(request);
    done();
  });

  function keyOf(request: FastifyRequest): ApiKey {
    const presented = presentedKeys(request).map(keyDigest);
    if (presented.length === 0) {
      const how = 'Authorization: Bearer KEY or X-Api-Key: KEY';
      throw new ApiError('invalid_api_key', `This server asks for an API key (${how}).`);
    }
    // Every key is compared, so that time tells nothing about which one was near.
    const [key] = presented.flatMap((each) => keys.filter(({ digest }) => timingSafeEqual(digest, each)));
    if (key === undefined) throw new ApiError('invalid_api_key', 'The API key is wrong.');
    return key;
  }
}
