/** One streamed completion of an OpenAI-compatible server. */
import { createParser } from 'eventsource-parser';
import { connectionError, errorOf, RemoteError, streamError } from './server-error.js';
import { headersOf, type RemoteServer } from './server.js';

export interface Asked {
  /** Path after the base URL. */
  readonly path: '/completions' | '/chat/completions';
  /** Fields of the request other than model and streaming. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** Sortie's service class of a request (`sortie.plan.service_class`). */
export type ServiceClass = 'guaranteed' | 'best_effort' | 'none';

/** Why an answer has its exit (`sortie.plan.reason`). */
export type DepthReason = 'deepest' | 'budget' | 'load';

/**
 * The `sortie` field of a whole answer (openapi.json), in ms. A field without a value is absent. The answer of an
 * upstream model has neither plan nor exits.
 */
export interface SortieReport {
  readonly plan?: {
    readonly service_class: ServiceClass;
    readonly exit_layer: number;
    readonly reason?: DepthReason;
    readonly predicted_ttft_ms?: number;
  };
  readonly exit_layers?: Readonly<Record<string, number>>;
  readonly source?: 'upstream' | 'net' | 'local';
  readonly predicted_ms?: number;
  readonly predicted_p10_ms?: number;
  readonly predicted_p90_ms?: number;
  readonly actual_ms: number;
  readonly queue_ms?: number;
  readonly budget_ms?: number;
  readonly outcome?: string;
  readonly met?: boolean;
  /** How the answer ended early to keep its budget. */
  readonly landed?: object;
}

/** The new part of an answer that one event brings. */
export interface Part {
  readonly text: string;
  /** Whether the event has output of the model: text, thoughts or a tool call. */
  readonly hasOutput: boolean;
  /** OpenAI's `finish_reason`; null before the end. */
  readonly finishReason: string | null;
  /** Tokens of the answer as the server counts them; null if this event has no count. */
  readonly tokens: number | null;
  readonly report: SortieReport | null;
}

interface Delta {
  readonly content?: string | null;
  /** The names of vLLM and llama.cpp, and of Ollama. */
  readonly reasoning_content?: string | null;
  readonly reasoning?: string | null;
  readonly tool_calls?: readonly unknown[] | null;
}

interface Choice {
  readonly text?: string | null;
  readonly delta?: Delta | null;
  readonly finish_reason?: string | null;
}

interface Event {
  readonly error?: unknown;
  readonly choices?: readonly Choice[] | null;
  readonly usage?: { readonly completion_tokens?: number | null } | null;
  readonly sortie?: Partial<SortieReport> | null;
}

export interface Asking {
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** Called with the headers of the response. */
  readonly onHeaders?: (headers: Headers) => void;
}

/**
 * Sends a request and yields the answer part by part.
 * @throws RemoteError if the answer is not complete
 */
export async function* streamAnswer(
  server: RemoteServer,
  model: string,
  { path, body }: Asked,
  { headers = {}, signal, onHeaders }: Asking = {},
): AsyncGenerator<Part> {
  const url = `${server.baseUrl}${path}`;
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headersOf(server, true), ...headers },
      body: JSON.stringify({ model, ...body, stream: true, stream_options: { include_usage: true } }),
      ...(signal === undefined ? {} : { signal }),
    });
    onHeaders?.(response.headers);
    if (!response.ok) throw await errorOf(response);
    const type = response.headers.get('content-type') ?? '';
    if (response.body === null || !type.startsWith('text/event-stream'))
      throw new RemoteError('no stream', `the server answered "${type}" instead of text/event-stream`);
    yield* parts(response.body as AsyncIterable<Uint8Array>);
  } catch (error) {
    throw connectionError(error, url, signal);
  }
}

async function* parts(body: AsyncIterable<Uint8Array>): AsyncGenerator<Part> {
  let isEnded = false;
  for await (const data of eventData(body)) {
    if (data === '[DONE]') return;
    const event = eventOf(data);
    if (event.error !== undefined && event.error !== null) throw streamError(event.error);
    const part = partOf(event);
    isEnded ||= part.finishReason !== null;
    yield part;
  }
  if (!isEnded) throw new RemoteError('incomplete stream', 'the connection was closed before the answer ended');
}

function eventOf(data: string): Event {
  let json: unknown;
  try {
    json = JSON.parse(data);
  } catch (cause) {
    throw new RemoteError('bad stream', `an event of the stream is not JSON: ${data.slice(0, 100)}`, { cause });
  }
  if (typeof json === 'object' && json !== null) return json;
  throw new RemoteError('bad stream', `an event of the stream is not an object: ${data.slice(0, 100)}`);
}

function partOf({ choices, usage, sortie }: Event): Part {
  const [choice] = choices ?? [];
  const delta = choice?.delta ?? {};
  const text = choice?.text ?? delta.content ?? '';
  const thoughts = delta.reasoning_content ?? delta.reasoning ?? '';
  const finishReason = choice?.finish_reason ?? null;
  // A token that is half a character has an empty text. In a chat the first event may have the role alone.
  const isEmptyToken = choice?.text === '' && finishReason === null;
  return {
    text,
    hasOutput: text !== '' || thoughts !== '' || (delta.tool_calls ?? []).length > 0 || isEmptyToken,
    finishReason,
    tokens: usage?.completion_tokens ?? null,
    report: isReport(sortie) ? sortie : null,
  };
}

/** Whether the field is the report of a whole answer, instead of the tokens so far. */
function isReport(sortie: Event['sortie']): sortie is SortieReport {
  return typeof sortie?.actual_ms === 'number';
}

/** Yields the data of each event of a `text/event-stream` body. */
export async function* eventData(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const events: string[] = [];
  const parser = createParser({ onEvent: ({ data }) => events.push(data) });
  const decoder = new TextDecoder();
  for await (const bytes of body) {
    parser.feed(decoder.decode(bytes, { stream: true }));
    yield* events.splice(0);
  }
  // Some servers omit the empty line after the last event.
  parser.feed(`${decoder.decode()}\n\n`);
  yield* events;
}
