/** Rejects new requests while the server drains. Running requests finish. */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api/errors.js';
import type { HttpContext } from '../context.js';

export function registerRejectWhenDraining(app: FastifyInstance, context: HttpContext): void {
  app.addHook('onRequest', async (request, reply) => {
    if (!context.draining) return;
    void reply.header('connection', 'close');
    if (request.routeOptions.config.inference !== true) return;
    throw new ApiError('draining', 'The server is shutting down; retry with another server.');
  });
}
