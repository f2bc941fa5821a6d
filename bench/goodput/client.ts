/**
 * One streamed completion against an OpenAI-compatible server, timed from outside.
 *
 * Knows: HTTP, SSE, what Sortie adds to the last chunk. Must not know: load, sides.
 */
import { performance } from 'node:perf_hooks';

export interface Asked {
  readonly path: '/v1/completions' | '/v1/chat/completions';
  /** The request's own fields, beside model and streaming. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** What a server says of a budget: a promise, room without a promise, neither, or no budget at all. */
export type ServiceClass = 'guaranteed' | 'reserved' | 'best_effort' | 'none';

export interface Answered {
  /** Milliseconds from sending to the first token; null where none came. */
  readonly ttftMs: number | null;
  readonly totalMs: number;
  readonly tokens: number;
  readonly status: number;
  /** OpenAI's `finish_reason`; null where the answer broke off. */
  readonly finishReason: string | null;
  /** Tokens by exit layer, where the server says it. */
  readonly exits: Readonly<Record<string, number>> | null;
  readonly serviceClass: ServiceClass | null;
  readonly predictedMs: number | null;
  /** Milliseconds that one and nine in ten answers are predicted to be within; null where the server has no interval. */
  readonly predictedP10Ms: number | null;
  readonly predictedP90Ms: number | null;
  /** What the server says that it took, and that the request waited. */
  readonly actualMs: number | null;
  readonly queueMs: number | null;
}

interface Choice {
  readonly text?: string;
  readonly delta?: { readonly content?: string | null };
  readonly finish_reason?: string | null;
}

interface Report {
  readonly plan: { readonly service_class: ServiceClass };
  readonly exit_layers: Record<string, number>;
  readonly predicted_ms?: number;
  readonly predicted_p10_ms?: number;
  readonly predicted_p90_ms?: number;
  readonly actual_ms: number;
  readonly queue_ms: number;
}

interface Event {
  readonly choices?: readonly Choice[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly sortie?: Report;
}

/** A prompt that must be answered with exactly so many tokens. */
export function exactly(prompt: readonly number[], maxTokens: number): Asked {
  return { path: '/v1/completions', body: { prompt, max_tokens: maxTokens, ignore_eos: true, temperature: 0 } };
}

/** A question whose answer ends where the model ends it. @param limit most tokens; without it the request states none */
export function freely(question: string, limit?: number): Asked {
  const messages = [{ role: 'user', content: question }];
  const stated = limit === undefined ? {} : { max_tokens: limit };
  return { path: '/v1/chat/completions', body: { messages, temperature: 0, ...stated } };
}

/**
 * Never throws for what the server answers; a connection that breaks counts as status 0.
 * @param headers budget, exit
 */
export async function complete(
  url: string,
  model: string,
  { path, body }: Asked,
  headers: Readonly<Record<string, string>>,
): Promise<Answered> {
  const sentAt = performance.now();
  let ttftMs: number | null = null;
  let tokens = 0;
  let status = 0;
  let finishReason: string | null = null;
  let report: Report | undefined;
  try {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model, ...body, stream: true, stream_options: { include_usage: true } }),
    });
    status = response.status;
    for await (const { choices = [], usage, sortie } of events(response)) {
      if (choices.some(hasToken)) ttftMs ??= performance.now() - sentAt;
      finishReason = choices[0]?.finish_reason ?? finishReason;
      tokens = usage?.completion_tokens ?? tokens;
      report = sortie ?? report;
    }
  } catch {
    status = 0;
  }
  return {
    ttftMs,
    totalMs: performance.now() - sentAt,
    tokens,
    status,
    finishReason,
    exits: report?.exit_layers ?? null,
    serviceClass: report?.plan.service_class ?? null,
    predictedMs: report?.predicted_ms ?? null,
    predictedP10Ms: report?.predicted_p10_ms ?? null,
    predictedP90Ms: report?.predicted_p90_ms ?? null,
    actualMs: report?.actual_ms ?? null,
    queueMs: report?.queue_ms ?? null,
  };
}

/** A token of a chat has content: some servers send the role ahead of it. */
const hasToken = ({ text, delta }: Choice): boolean => text !== undefined || (delta?.content ?? '') !== '';

async function* events(response: Response): AsyncGenerator<Event> {
  if (response.body === null) return;
  const decoder = new TextDecoder();
  let text = '';
  for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(part, { stream: true });
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      if (line.startsWith('data: {')) yield JSON.parse(line.slice(6)) as Event;
    }
  }
}
