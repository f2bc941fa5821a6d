/**
 * One answer as server-sent events on a raw response.
 *
 * Must not know: the content of an event, when a slow client is cut (responses.ts).
 */
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import type { ApiError } from '../api/errors.js';
import type { ClientStream, PlainAnswer } from '../upstream/call.js';
import { frameOf, type Incoming } from '../upstream/sse-events.js';
import { type ApiDialect, dialectOf, headersOf } from './errors.js';

/** Silence before a comment in a stream that is sure to have an answer. */
const FIRST_COMMENT_MS = 1000;

/** Takes the response over from Fastify. */
export class SseStream implements ClientStream {
  readonly #raw: ServerResponse;
  readonly #dialect: ApiDialect;
  #silence: NodeJS.Timeout;
  #isOver = false;
  /** Frames of this turn of the event loop: one write sends them all. */
  #waiting = '';
  #draining: Promise<void> | null = null;
  #resume = (): void => undefined;

  /**
   * @param keepAliveMs silence after which the dialect's keep-alive is sent
   * @param answer gives the headers known when the status line goes out, which may be before the first event
   */
  constructor(
    private readonly reply: FastifyReply,
    private readonly keepAliveMs: number,
    private readonly answer: { headers(): Readonly<Record<string, string>> },
  ) {
    reply.hijack();
    this.#raw = reply.raw;
    this.#dialect = dialectOf(reply.request);
    this.#silence = this.#commentsEach(keepAliveMs);
    reply.request.response.onClosed(() => {
      this.#close();
    });
  }

  keepOpen(): void {
    if (this.#isOver || this.keepAliveMs <= FIRST_COMMENT_MS) return;
    clearInterval(this.#silence);
    this.#silence = this.#commentsEach(FIRST_COMMENT_MS);
  }

  send(event: object, name?: string): void {
    this.#write(`${name === undefined ? '' : `event: ${name}\n`}data: ${JSON.stringify(event)}\n\n`);
  }

  pass(events: readonly Incoming[]): void {
    this.#write(events.map(frameOf).join(''));
  }

  #write(frame: string): void {
    if (this.#isOver) return;
    if (this.#waiting === '')
      process.nextTick(() => {
        this.#flush();
      });
    this.#waiting += frame;
  }

  #flush(): void {
    if (this.#isOver || this.#waiting === '') return;
    this.#open();
    this.#silence.refresh();
    this.#raw.write(this.#waiting);
    this.#waiting = '';
  }

  drained(): Promise<void> | null {
    // A client that reads on does not end the turn.
    if (this.#waiting.length >= this.#raw.writableHighWaterMark) this.#flush();
    if (this.#isOver || !this.#raw.writableNeedDrain) return null;
    this.#draining ??= new Promise((resolve) => {
      this.#resume = () => {
        this.#draining = null;
        resolve();
      };
      this.#raw.once('drain', this.#resume);
    });
    return this.#draining;
  }

  reject(error: ApiError): boolean {
    return this.respond({
      status: error.status,
      headers: { 'content-type': 'application/json; charset=utf-8', ...headersOf(error) },
      body: JSON.stringify(this.#dialect.errorBody(error, this.reply.request.id)),
    });
  }

  respond({ status, headers, body }: PlainAnswer): boolean {
    this.#flush();
    if (this.#isOver) return true;
    if (this.#raw.headersSent) return false;
    this.#close();
    this.#head(status, headers);
    this.#raw.end(body);
    return true;
  }

  end(last: string | null): void {
    if (this.#isOver) return;
    this.#open();
    const frames = this.#waiting + (last === null ? '' : `data: ${last}\n\n`);
    this.#close();
    this.#raw.end(frames);
  }

  #commentsEach(ms: number): NodeJS.Timeout {
    return setInterval(() => {
      this.#open();
      this.#raw.write(this.#dialect.keepAlive);
    }, ms);
  }

  #open(): void {
    if (this.#raw.headersSent || this.#isOver) return;
    this.#head(200, {
      ...this.answer.headers(),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    });
  }

  #head(status: number, more: Readonly<Record<string, string>>): void {
    // Sends the headers that hooks have set for Fastify's own answer (request id, CORS).
    for (const [name, value] of Object.entries(this.reply.getHeaders())) {
      if (value !== undefined) this.#raw.setHeader(name, value);
    }
    this.#raw.writeHead(status, { ...more });
  }

  #close(): void {
    this.#isOver = true;
    clearInterval(this.#silence);
    this.#resume();
  }
}
