/**
 * One answer as server-sent events on a raw response.
 *
 * Must not know: the content of an event, when a slow client is cut (in-flight.ts).
 */
import type { FastifyReply } from 'fastify';
import type { EventStream } from '../api/context.js';
import type { ApiError } from '../api/errors.js';
import { onClosed } from './response-lifecycle.js';
import { errorHeaders } from './plugins/errors.js';
import { protocolOf } from './protocol.js';

/**
 * Takes the response over from Fastify.
 * @param keepAliveMs silence after which the protocol's keep-alive is sent
 * @param headers the headers known when the status line goes out, which may be before the first event
 */
export function eventStream(
  reply: FastifyReply,
  keepAliveMs: number,
  headers: () => Readonly<Record<string, string>>,
): EventStream {
  reply.hijack();
  const { raw } = reply;
  const protocol = protocolOf(reply.request);
  let over = false;
  let draining: Promise<void> | null = null;
  let resume = (): void => undefined;
  const silence = setInterval(() => {
    open();
    raw.write(protocol.keepAlive);
  }, keepAliveMs);

  function head(status: number, more: Readonly<Record<string, string>>): void {
    // Sends the headers that hooks have set for Fastify's own answer (request id, CORS).
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) raw.setHeader(name, value);
    }
    raw.writeHead(status, { ...reply.server.loadHeaders(), ...more });
  }

  function open(): void {
    if (raw.headersSent || over) return;
    head(200, {
      ...headers(),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
  }

  function close(): void {
    over = true;
    clearInterval(silence);
    resume();
  }

  onClosed(reply, close);
  return {
    send(data, name) {
      if (over) return;
      open();
      silence.refresh();
      raw.write(`${name === undefined ? '' : `event: ${name}\n`}data: ${data}\n\n`);
    },
    drained() {
      if (over || !raw.writableNeedDrain) return null;
      draining ??= new Promise((resolve) => {
        resume = () => {
          draining = null;
          resolve();
        };
        raw.once('drain', resume);
      });
      return draining;
    },
    reject(error: ApiError) {
      if (over) return true;
      if (raw.headersSent) return false;
      close();
      head(error.status, { 'content-type': 'application/json; charset=utf-8', ...errorHeaders(error) });
      raw.end(JSON.stringify(protocol.errorBody(error, reply.request.id)));
      return true;
    },
    end(last) {
      if (over) return;
      close();
      if (last === null) raw.end();
      else raw.end(`data: ${last}\n\n`);
    },
  };
}
