/** The gateway on a real port, with the fake engine and the embedded model's tokenizer. */
import { readFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import type { FastifyInstance } from 'fastify';
import { type ApiContext, openPolicy } from '../../src/gateway/api/context.js';
import type { ServedModel } from '../../src/gateway/api/served-model.js';
import { resolveOptions } from '../../src/cli/options/config.js';
import { createApp, createOpsApp } from '../../src/gateway/http/app.js';
import type { HttpContext } from '../../src/gateway/http/context.js';
import { openKey, type ApiKey } from '../../src/gateway/http/keys.js';
import { EncodingThread } from '../../src/gateway/text/encoding/encoding-thread.js';
import { ChatTemplate } from '../../src/gateway/text/chat-template.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import { ScoreSum } from '../../src/gateway/api/params/score-limit.js';
import { RefusalPace } from '../../src/gateway/api/generation/refusal-pace.js';
import { RequestMetrics } from '../../src/gateway/telemetry/requests.js';
import type { Tracing } from '../../src/gateway/telemetry/trace.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { type NetOptions, UpstreamGateway } from '../../src/gateway/upstream/gateway.js';
import type { Upstream, UpstreamModel } from '../../src/gateway/upstream/upstream.js';
import type { SequenceRequest } from '../../src/protocol/index.js';
import { post as postJson } from '../support/post.js';
import { until } from '../support/until.js';
import { FakeEngine, type Script } from './engine.js';

const modelDir = resolveOptions({}, process.env).model;

export const tokenizerFile = join(modelDir, 'tokenizer.json');

export const tokenizerJson = JSON.parse(readFileSync(tokenizerFile, 'utf8')) as object;

export const tokenizer = new TextTokenizer(tokenizerJson);

/** The same tokenizer with a begin token (id 0), like Llama's. */
export function withBegin(): TextTokenizer {
  return new TextTokenizer({
    ...tokenizerJson,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<|endoftext|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
    },
  });
}

/** The same tokenizer with a token `<pad>`, whose id has no row in the model's embedding. */
export function withoutRow(): TextTokenizer {
  const id = tokenizer.vocabulary;
  const { added_tokens } = tokenizerJson as { added_tokens: object[] };
  const pad = {
    id,
    content: '<pad>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  return new TextTokenizer({ ...tokenizerJson, added_tokens: [...added_tokens, pad] }, id);
}

export const chatTemplate =
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

export const model: ServedModel = {
  name: 'fake',
  created: 1_700_000_000,
  licence: 'Apache-2.0',
  exits: [10, 15, 20, 25, 30].map((layer) => ({
    layer,
    quality: {},
    ...(layer < 30 && { dry: { multiplier: 8, base: 2, allowedLength: 3 } }),
  })),
  generation: {},
  context: 8192,
  eosTokens: [2],
  tokenizer,
  tokenizerFile,
  chat: new ChatTemplate(chatTemplate, {}),
};

export interface Overrides {
  readonly model?: Partial<ServedModel>;
  readonly limits?: Partial<ApiContext['limits']>;
  readonly options?: Partial<HttpContext['options']>;
  readonly apiKeys?: readonly (string | ApiKey)[];
  readonly tracing?: Tracing;
  readonly encoding?: EncodingThread;
  readonly log?: (line: string) => void;
  /** Whether `logged` has the lines of the log. */
  readonly keepsLog?: boolean;
  /** Each one is served by its own name. */
  readonly upstreams?: readonly Upstream[];
  readonly upstreamModels?: readonly UpstreamModel[];
  /** Absent: answers of upstreams land, and have no net. */
  readonly nets?: NetOptions;
}

/** The parts of an answer that tests read, in any API: those of the other APIs are absent. */
export interface Answer {
  readonly error: { readonly message: string; readonly param: string | null; readonly code: string | null };
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly message: Delta;
    readonly delta: Delta;
    readonly finish_reason: string | null;
    readonly logprobs: {
      readonly tokens: string[];
      readonly token_logprobs: (number | null)[];
      readonly top_logprobs: (Record<string, number> | null)[];
      readonly text_offset: number[];
      readonly content: { readonly token: string; readonly bytes: number[] }[];
    } | null;
  }[];
  readonly usage?: {
    readonly completion_tokens: number;
    readonly completion_tokens_details: { readonly reasoning_tokens: number };
  } | null;
  readonly sortie?: Readonly<Record<string, unknown>>;
}

interface Delta {
  readonly role?: string;
  readonly content?: string | null;
  readonly reasoning_content?: string;
  readonly tool_calls?: {
    readonly index: number;
    readonly id?: string;
    readonly function: { readonly name?: string; readonly arguments: string };
  }[];
}

export interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** The text as JSON, if that is its type. */
  readonly body: Answer;
}

export interface TestServer {
  readonly app: FastifyInstance;
  readonly engine: FakeEngine;
  readonly context: HttpContext;
  readonly url: string;
  /** The address of the operations port; equal to `url` without one. */
  readonly opsUrl: string;
  readonly port: number;
  post(path: string, body: unknown, headers?: Record<string, string>, signal?: AbortSignal): Promise<Response>;
  /** Posts, and reads the answer. */
  ask(path: string, body: unknown, headers?: Record<string, string>): Promise<Answered>;
  get(path: string, init?: Asked): Promise<Answered>;
  /** The chunks of a stream, without [DONE]. */
  chunks(path: string, body: object, headers?: Record<string, string>): Promise<Answer[]>;
  /** The newest request of the engine. */
  last(): SequenceRequest;
  /** The text of its prompt. */
  prompt(): string;
  /** The lines of the log with a message, once there are so many. */
  logged(count?: number, msg?: string): Promise<Record<string, unknown>[]>;
}

/** A request besides its path. */
export interface Asked {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | FormData;
}

/** Asks the app in this process, without a connection. */
async function injected(
  app: FastifyInstance,
  url: string,
  { method = 'GET', headers = {}, body }: Asked,
): Promise<Answered> {
  const options = { method: method as 'GET', url, headers, ...(body !== undefined && { payload: body }) };
  const { statusCode: status, headers: sent, payload: text } = await app.inject(options);
  const isJson = sent['content-type']?.toString().startsWith('application/json') === true;
  const all = Object.fromEntries(Object.entries(sent).map(([name, value]) => [name, String(value)]));
  return { status, headers: all, text, body: (isJson ? JSON.parse(text) : {}) as Answer };
}

/** An upstream under its own name, without defaults. */
export const ownModel = (upstream: Upstream): UpstreamModel => ({
  name: upstream.name,
  upstream,
  defaults: { latencyBudgetMs: null, onMiss: null, commit: null, net: null },
});

/** A script that answers every request with this text, token by token. */
export function says(text: string, script: Partial<Script> = {}): () => Script {
  return () => ({ tokens: tokenizer.encode(text, false), ...script });
}

/** @param t gets the teardown */
export async function build(
  t: { teardown(end: () => unknown): void },
  script: FakeEngine['script'] = says('Paris is the capital.'),
  overrides: Overrides = {},
): Promise<TestServer> {
  const engine = new FakeEngine(script);
  const lines: string[] = [];
  const log = overrides.log ?? (overrides.keepsLog === true ? (line: string) => lines.push(line) : undefined);
  const series = createSeries(model.name);
  const metrics = new RequestMetrics(series);
  metrics.observe(engine);
  const upstreamModels = [...(overrides.upstreams ?? []).map(ownModel), ...(overrides.upstreamModels ?? [])];
  const upstreams =
    upstreamModels.length === 0 ? undefined : new UpstreamGateway(upstreamModels, series, overrides.nets);
  const context: HttpContext = {
    ...(upstreams !== undefined && { upstreams }),
    api: {
      ...(upstreams !== undefined && { upstreamNames: upstreams.names }),
      engine,
      model: { ...model, ...overrides.model },
      encoding: overrides.encoding ?? new EncodingThread(tokenizerFile),
      limits: {
        maxTokensDefault: 64,
        prefixReuse: 'key',
        policy: openPolicy,
        ...overrides.limits,
      },
      metrics,
      scores: new ScoreSum(),
      refusals: new RefusalPace(),
    },
    series,
    options: {
      ...resolveOptions({}, {}),
      host: '0.0.0.0',
      maxBody: 1 << 20,
      maxConnections: 1000,
      requestTimeout: 30,
      stallTimeout: 30,
      keepAlive: 30,
      ...overrides.options,
    },
    apiKeys: (overrides.apiKeys ?? []).map((key) => (typeof key === 'string' ? openKey(key) : key)),
    tracing: overrides.tracing ?? null,
    version: '0.0.0-test',
    policy: overrides.limits?.policy ?? openPolicy,
    log: log === undefined ? pino({ level: 'silent' }) : pino({ level: 'info' }, { write: log }),
    draining: false,
  };
  const app = await createApp(context);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const ops = context.options.opsPort === null ? null : await createOpsApp(context);
  const opsUrl = (await ops?.listen({ host: '127.0.0.1', port: 0 })) ?? url;
  t.teardown(async () => {
    for (const each of ops === null ? [app] : [app, ops]) {
      each.server.closeAllConnections();
      await each.close();
    }
    await context.api.encoding.close();
    await engine.close();
  });
  const post: TestServer['post'] = (path, ...asked) => postJson(url + path, ...asked);
  const last = (): SequenceRequest => {
    const request = engine.requests.at(-1);
    if (request === undefined) throw new Error('the engine has no request');
    return request;
  };
  const logged = (msg: string) =>
    lines.map((line) => JSON.parse(line) as Record<string, unknown>).filter((line) => line.msg === msg);
  return {
    ...{ app, engine, context, url, opsUrl, port, post, last },
    ask: (path, body, headers = {}) =>
      injected(app, path, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json', ...headers } },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    get: (path, init = {}) => injected(app, path, init),
    chunks: async (path, body, headers) =>
      (await events(await post(path, { ...body, stream: true }, headers)))
        .filter((data) => data !== '[DONE]')
        .map((data) => JSON.parse(data) as Answer),
    prompt: () => context.api.model.tokenizer.decode(last().prompt, { special: true }),
    logged: async (count = 1, msg = 'request') => {
      await until('logged', () => logged(msg).length >= count);
      return logged(msg);
    },
  };
}

/** The data of every event of a stream, as text. */
export async function events(response: Response): Promise<string[]> {
  return (await response.text())
    .split('\n\n')
    .filter((block) => block.startsWith('data: '))
    .map((block) => block.slice('data: '.length));
}

/** Sends these bytes. @returns the bytes of the server until it closes the connection */
export function exchange(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    socket.on('data', (data: Buffer) => (text += data.toString()));
    socket.on('close', () => {
      resolve(text);
    });
    socket.on('error', reject);
  });
}

/** Streams of named events, as /v1/responses and /v1/messages have them. They have no [DONE]. */
export async function streamed(server: TestServer, path: string, body: object): Promise<NamedEvent[]> {
  const last: string[] = [];
  const events = namedEvents((await server.ask(path, { ...body, stream: true })).text, last);
  if (last.length > 0) throw new Error(`an event has no name: ${last.join()}`);
  return events;
}

export interface NamedEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** The events of a stream. @param last receives the data of events without a name, such as [DONE] */
export function namedEvents(text: string, last: string[] = []): NamedEvent[] {
  return text
    .split('\n\n')
    .filter((block) => block !== '')
    .flatMap((block) => {
      const [first = '', second = ''] = block.split('\n');
      if (first.startsWith('event: ')) {
        const data = JSON.parse(second.slice('data: '.length)) as NamedEvent['data'];
        return [{ name: first.slice('event: '.length), data }];
      }
      if (first.startsWith('data: ')) last.push(first.slice('data: '.length));
      return [];
    });
}
