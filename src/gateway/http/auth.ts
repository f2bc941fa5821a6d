/** API keys: hashed in memory, compared in constant time. Routes with `config.protected` require one. */
import { timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from '../api/errors.js';
import type { GatewayContext } from './context.js';
import { keyDigest, type ApiKey } from './keys.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Requires an API key if any are configured. */
    protected?: boolean;
    /** Rejected while the server drains. */
    inference?: boolean;
  }
  interface FastifyRequest {
    /** Null if the route requires no key. */
    apiKey: ApiKey | null;
  }
}

/** Reads both headers. SDKs always send a Bearer token, often a made-up one beside the client's own X-Api-Key. */
function presentedKeys(request: FastifyRequest): string[] {
  const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
  return [bearer, request.headers['x-api-key']].filter((text) => typeof text === 'string');
}

/** Without keys in the context, every request passes. */
export function registerAuth(app: FastifyInstance, context: Pick<GatewayContext, 'apiKeys'>): void {
  app.decorateRequest('apiKey', null);
  if (context.apiKeys.length === 0) return;
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.routeOptions.config.protected === true) request.apiKey = keyOf(request);
    done();
  });

  function keyOf(request: FastifyRequest): ApiKey {
    const presented = presentedKeys(request).map(keyDigest);
    if (presented.length === 0) {
      const how = 'Authorization: Bearer KEY or X-Api-Key: KEY';
      throw new ApiError('invalid_api_key', `This server requires an API key (${how}).`);
    }
    // Every key is compared, so the time taken tells nothing about a near match.
    const [key] = presented.flatMap((each) => context.apiKeys.filter(({ digest }) => timingSafeEqual(digest, each)));
    if (key === undefined) throw new ApiError('invalid_api_key', 'The API key is wrong.');
    return key;
  }
}
