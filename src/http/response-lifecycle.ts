/** When a response is over, whichever way. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import { ClientGone } from '../api/errors.js';

/** What waits for each connection: one listener on the socket, however many requests are pipelined on it. */
const waiting = new WeakMap<Socket, Set<() => void>>();

/** The responses that are waited for, and whether each has gone out whole. */
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
    // What a destroyed socket still had to send is "finished" as well.
    raw.prependOnceListener('finish', () => sent.set(raw, !socket.destroyed));
  }
  const waiters = waitersOf(socket);
  const closed = (): void => {
    if (waiters.delete(closed)) listener();
  };
  waiters.add(closed);
  raw.once('close', closed);
}

/** The status of each response in whose place its connection was answered. */
const refused = new WeakMap<ServerResponse, number>();

/** Notes what a connection was told whose request did not arrive whole: nothing goes out by its response. */
export function noteRefused(response: ServerResponse, status: number): void {
  refused.set(response, status);
}

/** Whether every byte went out. `writableFinished` says so, too, when a socket is destroyed with bytes left. */
export function isSent({ raw }: FastifyReply): boolean {
  return sent.get(raw) === true || refused.has(raw);
}

/** Aborts with `ClientGone` when the client leaves before the answer's end. (`request.signal` fires too early.) */
export function clientAbortSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  onClosed(reply, () => {
    if (!isSent(reply)) gone.abort(new ClientGone());
  });
  return gone.signal;
}

/** The status that the client was told; where it left before it was told any, nginx's number for that. */
export function statusOf({ raw }: FastifyReply): number {
  return raw.headersSent ? raw.statusCode : (refused.get(raw) ?? 499);
}
