/** When a response is over, whichever way. */
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';

/** What waits for each connection: one listener on the socket, however many requests are pipelined on it. */
const waiting = new WeakMap<Socket, Set<() => void>>();

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
  const waiters = waitersOf(socket);
  const closed = (): void => {
    if (waiters.delete(closed)) listener();
  };
  waiters.add(closed);
  raw.once('close', closed);
}
