/** A small server with the API of OpenAI, without any field of Sortie: the form of vLLM, llama.cpp and Ollama. */
import { createServer, type IncomingMessage, type ServerResponse, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { once } from 'node:events';

export interface PlainRequest {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: {
    readonly model: string;
    readonly messages?: readonly { readonly role: string; readonly content: string }[];
    readonly prompt?: string;
    readonly stream_options?: object;
    readonly [field: string]: unknown;
  };
}

export interface PlainAnswer {
  /** Parts of the text, one an event. */
  readonly parts: readonly string[];
  /** Milliseconds before each part. */
  readonly pace?: number;
  readonly finish?: string;
  /** Tokens that the usage states; null for a server that ignores `stream_options`. */
  readonly usage?: number | null;
  /** Bytes to send instead of the events. */
  readonly raw?: { readonly status: number; readonly type: string; readonly text: string };
  /** Closes the connection after the parts. */
  readonly isBroken?: boolean;
}

export interface PlainServer {
  readonly url: string;
  readonly requests: PlainRequest[];
  /** Requests whose client has left before the end of the answer. */
  readonly left: { count: number };
}

/** The URL of a port without a server. */
export async function closedUrl(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}`;
}

/** @param answer of a request by its number, from 0 */
export async function plainServer(
  t: { teardown(end: () => unknown): void },
  answer: (request: PlainRequest, index: number) => PlainAnswer,
): Promise<PlainServer> {
  const requests: PlainRequest[] = [];
  const left = { count: 0 };
  const server = createServer((request, response) => {
    void serve(request, response, requests, left, answer);
  });
  return { url: await listening(t, server), requests, left };
}

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  requests: PlainRequest[],
  left: { count: number },
  answer: (request: PlainRequest, index: number) => PlainAnswer,
): Promise<void> {
  const path = request.url ?? '';
  if (request.method === 'GET') {
    const models = { object: 'list', data: [{ id: 'plain-7b', object: 'model', owned_by: 'library' }] };
    response.writeHead(path === '/v1/models' ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(models));
    return;
  }
  let text = '';
  for await (const bytes of request) text += String(bytes);
  const asked: PlainRequest = { path, headers: request.headers, body: JSON.parse(text) as PlainRequest['body'] };
  const { parts, pace = 0, finish = 'stop', usage = parts.length, raw, isBroken } = answer(asked, requests.length);
  requests.push(asked);
  if (raw !== undefined) {
    response.writeHead(raw.status, { 'content-type': raw.type }).end(raw.text);
    return;
  }
  response.on('close', () => {
    if (!response.writableFinished) left.count++;
  });
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  const isChat = path.endsWith('/chat/completions');
  const send = (choices: readonly object[], fields: object = {}): void => {
    response.write(`data: ${JSON.stringify({ id: 'x', object: 'chunk', model: 'plain-7b', choices, ...fields })}\n\n`);
  };
  const choice = (content: string | null, finish_reason: string | null): object =>
    isChat
      ? { index: 0, delta: content === null ? {} : { content }, finish_reason }
      : { index: 0, text: content ?? '', finish_reason };
  // llama.cpp and vLLM begin a chat with the role alone.
  if (isChat) send([{ index: 0, delta: { role: 'assistant', content: null }, finish_reason: null }]);
  for (const part of parts) {
    if (pace > 0) await sleep(pace, undefined, { ref: false });
    send([choice(part, null)]);
  }
  if (isBroken === true) {
    await sleep(20);
    response.destroy();
    return;
  }
  send([choice(null, finish)]);
  if (usage !== null) send([], { usage: { prompt_tokens: 7, completion_tokens: usage, total_tokens: 7 + usage } });
  response.end('data: [DONE]\n\n');
}

/** An answer of another status, with JSON. */
export function jsonAnswer(status: number, body: object): PlainAnswer {
  return { parts: [], raw: { status, type: 'application/json', text: JSON.stringify(body) } };
}

/** Lets a server listen on a free port of this machine until the end of the test. @returns its address */
export async function listening(t: { teardown(end: () => unknown): void }, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
