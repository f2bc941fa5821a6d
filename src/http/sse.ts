/**
 * One answer as server-sent events on a raw response.
 *
 * Must not know: the content of an event, slow readers (plugins/in-flight.ts cuts them).
 */
import type { FastifyReply } from 'fastify';
import type { EventStream } from '../api/context.js';
import type { ApiError } from '../api/errors.js';
import { onClosed } from './response-lifecycle.js';
import { errorHeaders } from './plugins/errors.js';

/**
 * Takes the response over from Fastify.
 * @param keepAliveMs silence after which a comment line is sent
 * @param headers the headers known when the status line goes out, which may be before the first event
 */
export function eventStream(
  reply: FastifyReply,
  keepAliveMs: number,
  headers: () => Readonly<Record<string, string>>,
): EventStream {
  reply.hijack();
  const { raw } = reply;
  let over = false;
  const silence = setInterval(() => {
    open();
    raw.write(': keep-alive\n\n');
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
  }

  onClosed(reply, close);
  return {
    open,
    send(data) {
      if (over) return;
      silence.refresh();
      raw.write(`data: ${data}\n\n`);
    },
    fail(error: ApiError) {
      if (over) return;
      close();
      const body = JSON.stringify(error.body());
      if (raw.headersSent) {
        raw.end(`data: ${body}\n\ndata: [DONE]\n\n`);
        return;
      }
      head(error.status, { 'content-type': 'application/json; charset=utf-8', ...errorHeaders(error) });
      raw.end(body);
    },
    end() {
      if (over) return;
      close();
      raw.end('data: [DONE]\n\n');
    },
  };
}
