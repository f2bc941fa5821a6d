/** The responses in flight, which a drain waits for. A connection whose client does not read is cut. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { monotonicMs } from '../../util/clock.js';
import { onClosed } from './response-lifecycle.js';

declare module 'fastify' {
  interface FastifyInstance {
    readonly inFlightResponses: ReadonlyMap<ServerResponse, FastifyRequest>;
  }
}

/** @param stallMs how long a connection may hold unsent bytes while the client reads none */
export function registerInFlight(app: FastifyInstance, stallMs: number): void {
  const open = new Map<ServerResponse, FastifyRequest>();
  app.decorate('inFlightResponses', open);
  app.addHook('onRequest', (request, reply, done) => {
    open.set(reply.raw, request);
    onClosed(reply, () => open.delete(reply.raw));
    done();
  });

  /** For each socket, the number of bytes that it has taken and the time of the last progress. */
  const progress = new WeakMap<Socket, { readonly taken: number; readonly at: number }>();
  const sweep = setInterval(
    () => {
      const now = monotonicMs();
      const oldest = new Map<Socket, FastifyRequest>();
      for (const request of open.values()) {
        if (!oldest.has(request.raw.socket)) oldest.set(request.raw.socket, request);
      }
      for (const [socket, request] of oldest) {
        const taken = socket.bytesWritten - socket.writableLength;
        const last = progress.get(socket);
        if (socket.writableLength === 0 || last?.taken !== taken) {
          progress.set(socket, { taken, at: now });
        } else if (now - last.at >= stallMs) {
          request.log.warn({ unsent: socket.writableLength }, 'the client does not read; cutting its connection');
          socket.destroy();
        }
      }
    },
    Math.min(1000, stallMs / 4),
  );
  sweep.unref();
  app.addHook('onClose', (_app, done) => {
    clearInterval(sweep);
    done();
  });
}
