/**
 * The end of a response, sent or aborted.
 *
 * Headers of every response: the request id, protections for browsers; and warnings.
 */
import type { ServerResponse, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyInstance, FastifyRequest } from 'fastify';
import { ClientGone } from '../api/errors.js';
import { randomUUID } from 'node:crypto';
import type { HeadersOf, requestIdHeader, warningHeader } from '../api/schemas/headers.js';
import { dialectOf } from './api-dialect.js';

/** The listeners of each connection. The socket has one listener, however many requests are pipelined on it. */
const waiting = new WeakMap<Socket, Set<() => void>>();

/** The watched responses, and whether each went out in full. */
const sent = new WeakMap<ServerResponse, boolean>();

function waitersOf(socket: Socket): Set<() => void> {
  const known = waiting.get(socket);
  if (known !== undefined) return known;
  const waiters = new Set<() => void>();
  waiting.set(socket, waiters);
  socket.once('close', () => {
    for (const waiter of [...waiters]) waiter();
  });
  return waiters;
}

/**
 * Calls the listener once when the response has ended or its connection is closed. A pipelined response that waits for
 * its turn never emits `close` when the connection goes, so the socket is watched as well.
 */
export function onClosed(reply: FastifyReply, listener: () => void): void {
  const { raw } = reply;
  const { socket } = reply.request.raw;
  if (raw.destroyed || socket.destroyed) {
    listener();
    return;
  }
  if (!sent.has(raw)) {
    sent.set(raw, raw.writableFinished);
    // `finish` also fires for the unsent rest of a destroyed socket.
    raw.prependOnceListener('finish', () => sent.set(raw, !socket.destroyed));
  }
  const waiters = waitersOf(socket);
  const closed = (): void => {
    if (waiters.delete(closed)) listener();
  };
  waiters.add(closed);
  raw.once('close', closed);
}

/** Whether every byte went out. `writableFinished` is also true after a socket was destroyed with unsent bytes. */
export function isSent({ raw }: FastifyReply): boolean {
  return sent.get(raw) === true;
}

/**
 * Aborts with `ClientGone` when the client disconnects before the end of the response. (`request.signal` fires too
 * early.)
 */
export function clientAbortSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  onClosed(reply, () => {
    if (!isSent(reply)) gone.abort(new ClientGone());
  });
  return gone.signal;
}

/**
 * The status that the client got. A client that disconnected before any status counts as 499, nginx's number for it.
 */
export function statusOf({ raw }: FastifyReply): number {
  return raw.headersSent ? raw.statusCode : 499;
}

/** The client's X-Request-Id if it is one printable word, else a new id. */
export function requestId(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}

/** Headers of every response. */
export function commonHeaders({
  id,
}: Pick<FastifyRequest, 'id'>): HeadersOf<typeof requestIdHeader> & Record<string, string> {
  return {
    'x-request-id': id,
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
  };
}

export function registerHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    const { idHeader } = dialectOf(request);
    void reply.headers({ ...commonHeaders(request), ...(idHeader !== null && { [idHeader]: request.id }) });
  });
}

const WARNING: keyof HeadersOf<typeof warningHeader> = 'x-sortie-warning';

/**
 * Adds a sentence to the header that tells a client which of its fields have no effect. The status line must not be
 * sent.
 */
export function warn(reply: FastifyReply, text: string): void {
  const said = reply.getHeader(WARNING);
  void reply.header(WARNING, said === undefined ? text : `${String(said)} ${text}`);
}
