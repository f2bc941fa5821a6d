/** The end of a response, sent or aborted. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import { ClientGone } from '../api/errors.js';

/** The listeners of each connection. The socket has one listener, however many requests are pipelined on it. */
const waiting = new WeakMap<Socket, Set<() => void>>();

/** A response whose end is watched. It has one listener of its own, however many ask. */
interface Watched {
  /** Whether it went out in full. */
  isSent: boolean;
  readonly listeners: (() => void)[];
}

const watched = new WeakMap<ServerResponse, Watched>();

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

function watchedOf(raw: ServerResponse, socket: Socket): Watched {
  const known = watched.get(raw);
  if (known !== undefined) return known;
  const made: Watched = { isSent: raw.writableFinished, listeners: [] };
  watched.set(raw, made);
  // `finish` also fires for the unsent rest of a destroyed socket.
  raw.prependOnceListener('finish', () => (made.isSent = !socket.destroyed));
  const waiters = waitersOf(socket);
  const closed = (): void => {
    if (waiters.delete(closed)) for (const listener of made.listeners) listener();
  };
  waiters.add(closed);
  raw.once('close', closed);
  return made;
}

/**
 * Calls the listener once when the response has ended or its connection is closed. A pipelined response that waits for
 * its turn never emits `close` when the connection goes, so the socket is watched as well.
 */
export function onClosed(reply: FastifyReply, listener: () => void): void {
  const { raw } = reply;
  const { socket } = reply.request.raw;
  if (raw.destroyed || socket.destroyed) listener();
  else watchedOf(raw, socket).listeners.push(listener);
}

/** Whether every byte went out. `writableFinished` is also true after a socket was destroyed with unsent bytes. */
export function isSent({ raw }: FastifyReply): boolean {
  return watched.get(raw)?.isSent === true;
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
