/** Servers with the API of OpenAI whose answers a test scripts, byte by byte. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { Upstream } from '../../src/gateway/upstream/upstream.js';
import { monotonicMs } from '../../src/util/clock.js';

interface Body {
  readonly messages?: readonly { readonly role: string; readonly content: string }[];
  readonly [field: string]: unknown;
}

interface Teardown {
  teardown(end: () => unknown): void;
}

export interface Exchange {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly body: Body;
  readonly response: ServerResponse;
  /** When the connection or the answer ended, on the monotonic clock. */
  closedAt: number | null;
}

export type UpstreamScript = (exchange: Exchange) => unknown;

export interface ScriptedUpstream {
  readonly url: URL;
  readonly exchanges: Exchange[];
  script: UpstreamScript;
}

/** The names and the key of the upstream in tests; each test has its own address. */
export const upstream: Omit<Upstream, 'url'> = {
  name: 'big',
  model: 'vendor/big-1',
  key: 'upstream-key',
  deadlineHeader: 'x-latency-budget-ms',
  extraHeaders: {},
};

/** Lets a server listen on a free port of this machine until the end of the test. @returns its address */
export async function listening(t: Teardown, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The URL of a port without a server. */
export async function closedUrl(): Promise<string> {
  const ends: (() => unknown)[] = [];
  const url = await listening({ teardown: (end) => ends.push(end) }, createServer());
  for (const end of ends) end();
  return url;
}

export async function scriptedUpstream(t: Teardown, script: UpstreamScript): Promise<ScriptedUpstream> {
  const exchanges: Exchange[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.setEncoding('utf8').on('data', (data: string) => (text += data));
    request.on('end', () => {
      const body = (text === '' ? {} : JSON.parse(text)) as Body;
      const exchange: Exchange = {
        ...{ path: request.url ?? '', headers: request.headers, text, body, response, closedAt: null },
      };
      response.on('close', () => (exchange.closedAt = monotonicMs()));
      exchanges.push(exchange);
      void run.script(exchange);
    });
  });
  const url = new URL(`${await listening(t, server)}/v1`);
  const run: ScriptedUpstream = { url, exchanges, script };
  return run;
}

/** A chunk of a chat as the upstream writes it. */
export function chunk(delta: object, finish: string | null = null, more: object = {}): string {
  return JSON.stringify({
    id: 'chatcmpl-there',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'vendor/big-1',
    choices: [{ index: 0, delta, finish_reason: finish }],
    ...more,
  });
}

export const event = (data: string): string => `data: ${data}\n\n`;

/** Begins a stream of events. */
export function begin({ response }: Exchange): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
}

/** Writes the words of a text, one chunk each. @param paceMs between two words */
export async function say({ response }: Exchange, text: string, paceMs = 0): Promise<void> {
  for (const word of text.match(/\S+\s*/g) ?? []) {
    if (response.destroyed) return;
    response.write(event(chunk({ content: word })));
    if (paceMs > 0) await delay(paceMs);
  }
}

/** Begins an answer with a text. @param paceMs between two words */
export async function starts(exchange: Exchange, text: string, paceMs = 0): Promise<void> {
  begin(exchange);
  exchange.response.write(event(chunk({ role: 'assistant', content: '' })));
  await say(exchange, text, paceMs);
}

/** Ends an answer as OpenAI does. */
export function finish({ response }: Exchange): void {
  response.end(event(chunk({}, 'stop')) + event('[DONE]'));
}

/** A whole answer in a stream. */
export const answers =
  (text: string, paceMs = 0): UpstreamScript =>
  async (exchange) => {
    await starts(exchange, text, paceMs);
    finish(exchange);
  };

/** An answer with this status, and an error of its own. */
export const fails =
  (status: number, headers: Readonly<Record<string, string>> = {}): UpstreamScript =>
  ({ response }) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end('{"error":{"message":"no","code":"theirs"}}');
  };

/** A stream that repeats a text for ever. */
export const repeats =
  (text: string): UpstreamScript =>
  async (exchange) => {
    begin(exchange);
    while (!exchange.response.destroyed) {
      exchange.response.write(text);
      await delay(250);
    }
  };

/** A stream that begins with a text, then ends with these bytes; null: its connection breaks. */
export const breaks =
  (text: string, end: string | null): UpstreamScript =>
  async (exchange) => {
    await starts(exchange, text);
    await delay(30);
    if (end === null) exchange.response.destroy();
    else exchange.response.end(end);
  };

export const IN_BAND_ERROR = event('{"error":{"message":"overloaded"}}');
export const HALF_A_CHUNK = event('{"choices":[{"del');
export const FILTERED = event(chunk({}, 'content_filter')) + event('[DONE]');

/** An answer with status 200 that is no JSON as the API has it. */
const says =
  (type: string, body: string | Buffer, headers = {}): UpstreamScript =>
  ({ response }) =>
    response.writeHead(200, { 'content-type': type, ...headers }).end(body);

/** Upstreams whose good status comes without an answer. */
export const NO_ANSWER: Readonly<Record<string, UpstreamScript>> = {
  'a page': says('text/html', '<p>Sign in</p>'),
  'a list': says('application/json', '[{}]'),
  'no body': says('application/json', ''),
  'status 204': ({ response }) => response.writeHead(204).end(),
  'a zipped body': says('application/json', gzipSync('{}'), { 'content-encoding': 'gzip' }),
  'JSON nested too deep': says('application/json', `{"a":${'['.repeat(2e5)}${']'.repeat(2e5)}}`),
  'a chunk nested too deep': (exchange) => {
    begin(exchange);
    exchange.response.end(event(`{"choices":[{"delta":{"a":${'['.repeat(2e5)}${']'.repeat(2e5)}}}]}`));
  },
};

/** Upstreams that say nothing of an answer. */
export const SILENT: Readonly<Record<string, UpstreamScript>> = {
  'hang before headers': () => undefined,
  'headers, then nothing': begin,
  'keep-alives for ever': repeats(': keep-alive\n\n'),
  'role only': (exchange) => starts(exchange, ''),
  'thoughts for ever': repeats(event(chunk({ reasoning_content: 'Well. ' }))),
};

/** An answer as vLLM, llama.cpp and Ollama write it, without any field of Sortie. */
export interface PlainAnswer {
  /** Parts of the text, one an event. */
  readonly parts: readonly string[];
  /** Milliseconds ahead of each part. */
  readonly pace?: number;
  readonly finish?: string;
  /** Tokens that the usage states; null for a server that ignores `stream_options`. */
  readonly usage?: number | null;
  /** Bytes to send instead of the events. */
  readonly raw?: UpstreamScript;
  /** Closes the connection behind the parts. */
  readonly isBroken?: boolean;
}

/** @param answer of a request by its number, from 0 @returns its requests, and how many clients left an answer */
export async function plainServer(t: Teardown, answer: (index: number) => PlainAnswer) {
  const requests: Exchange[] = [];
  const left = { count: 0 };
  const { url } = await scriptedUpstream(t, async (exchange) => {
    const { path, text, response } = exchange;
    if (text === '') {
      const models = { object: 'list', data: [{ id: 'plain-7b', object: 'model', owned_by: 'library' }] };
      response.writeHead(path === '/v1/models' ? 200 : 404, { 'content-type': 'application/json' });
      response.end(JSON.stringify(models));
      return;
    }
    const { parts, pace = 0, finish: reason = 'stop', usage = parts.length, raw, isBroken } = answer(requests.length);
    requests.push(exchange);
    if (raw !== undefined) return void raw(exchange);
    response.on('close', () => {
      if (!response.writableFinished) left.count++;
    });
    begin(exchange);
    const isChat = path.endsWith('/chat/completions');
    const send = (content: string | null, end: string | null = null, more: object = {}): void => {
      const choice = { index: 0, text: content ?? '', finish_reason: end };
      response.write(
        event(chunk(content === null ? {} : { content }, end, isChat ? more : { choices: [choice], ...more })),
      );
    };
    if (isChat) response.write(event(chunk({ role: 'assistant', content: null })));
    for (const part of parts) {
      if (pace > 0) await delay(pace, undefined, { ref: false });
      send(part);
    }
    if (isBroken === true) {
      await delay(20);
      response.destroy();
      return;
    }
    send(null, reason);
    const counts = { prompt_tokens: 7, completion_tokens: usage, total_tokens: 7 + (usage ?? NaN) };
    if (usage !== null) send(null, null, { choices: [], usage: counts });
    response.end(event('[DONE]'));
  });
  return { url: url.origin, requests, left };
}

/** An answer of one piece with a status. */
export function rawAnswer(status: number, type: string, text: string): PlainAnswer {
  return { parts: [], raw: ({ response }) => response.writeHead(status, { 'content-type': type }).end(text) };
}

/** An answer of another status, with JSON. */
export const jsonAnswer = (status: number, body: object): PlainAnswer =>
  rawAnswer(status, 'application/json', JSON.stringify(body));
