/** One streamed completion of an OpenAI-compatible server, timed by the client. */
import { performance } from 'node:perf_hooks';

export interface Asked {
  readonly path: '/v1/completions' | '/v1/chat/completions';
  /** Fields of the request other than model and streaming. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** Sortie's service class of a request (`sortie.plan.service_class`). */
export type ServiceClass = 'guaranteed' | 'reserved' | 'best_effort' | 'none';

export interface Answered {
  /** Milliseconds from sending to the first token; null without one. */
  readonly ttftMs: number | null;
  readonly totalMs: number;
  readonly tokens: number;
  readonly status: number;
  /** OpenAI's `finish_reason`; null for an incomplete answer. */
  readonly finishReason: string | null;
  /** Tokens by exit layer; null if the server does not report them. */
  readonly exits: Readonly<Record<string, number>> | null;
  readonly serviceClass: ServiceClass | null;
  readonly predictedMs: number | null;
  /** Predicted 10% and 90% quantiles of the total in ms; null if the server does not report them. */
  readonly predictedP10Ms: number | null;
  readonly predictedP90Ms: number | null;
  /** The server's own total time and queueing time in ms. */
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

/** A prompt with an answer of exactly `maxTokens` tokens. */
export function exactly(prompt: readonly number[], maxTokens: number): Asked {
  return { path: '/v1/completions', body: { prompt, max_tokens: maxTokens, ignore_eos: true, temperature: 0 } };
}

/** A question with an answer that the model ends. @param limit max_tokens; the request omits it by default */
export function freely(question: string, limit?: number): Asked {
  const messages = [{ role: 'user', content: question }];
  const stated = limit === undefined ? {} : { max_tokens: limit };
  return { path: '/v1/chat/completions', body: { messages, temperature: 0, ...stated } };
}

/**
 * Sends a request. Any status is a result; a broken connection has status 0.
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

/** Whether a choice holds a token: in a chat, some servers send the role in a message without content. */
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
