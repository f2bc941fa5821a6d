/**
 * One answer as server-sent events on a raw response.
 *
 * Knows: the wire, silence and slow readers. Must not know: what an event says.
 */
import type { FastifyReply } from 'fastify';
import type { EventStream } from '../api/context.js';
import type { ApiError } from '../errors.js';
import { errorHeaders } from './plugins/errors.js';

export interface StreamTimes {
  /** Silence after which a comment line is sent, ms. */
  readonly keepAliveMs: number;
  /** How long a client may leave data unread, ms. */
  readonly stallMs: number;
}

/** Calls the listener once when the client leaves before the answer's end. (`request.signal` fires too early.) */
export function onGone(reply: FastifyReply, listener: () => void): void {
  // It may have left while the prompt was tokenized.
  if (reply.raw.destroyed) {
    listener();
    return;
  }
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) listener();
  });
}

/** Takes the response over from Fastify. */
export function eventStream(reply: FastifyReply, times: StreamTimes): EventStream {
  reply.hijack();
  const { raw } = reply;
  let over = false;
  let stall: NodeJS.Timeout | null = null;
  const silence = setInterval(() => {
    open({});
    write(': keep-alive\n\n');
  }, times.keepAliveMs);

  function write(text: string): void {
    if (over) return;
    if (raw.write(text) || stall !== null) return;
    stall = setTimeout(() => raw.destroy(), times.stallMs);
    raw.once('drain', () => {
      if (stall !== null) clearTimeout(stall);
      stall = null;
    });
  }

  function head(status: number, headers: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) raw.setHeader(name, value);
    }
    raw.writeHead(status, headers);
  }

  function open(headers: Readonly<Record<string, string>>): void {
    if (raw.headersSent || over) return;
    head(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
  }

  function close(): void {
    over = true;
    clearInterval(silence);
    if (stall !== null) clearTimeout(stall);
  }

  raw.once('close', close);
  return {
    open,
    send(data) {
      silence.refresh();
      write(`data: ${data}\n\n`);
    },
    fail(error: ApiError) {
      if (over) return;
      const body = JSON.stringify(error.body());
      if (raw.headersSent) {
        write(`data: ${body}\n\ndata: [DONE]\n\n`);
        close();
        raw.end();
        return;
      }
      close();
      head(error.status, { 'content-type': 'application/json; charset=utf-8', ...errorHeaders(error) });
      raw.end(body);
    },
    end() {
      write('data: [DONE]\n\n');
      close();
      raw.end();
    },
    onGone(listener) {
      onGone(reply, listener);
    },
  };
}
