/**
 * One streamed completion against an OpenAI-compatible server, timed from outside.
 *
 * Knows: HTTP, SSE, what Sortie adds to the last chunk. Must not know: load, sides.
 */
import { performance } from 'node:perf_hooks';

export interface Asked {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** Extra headers: budget, exit. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Answered {
  /** Milliseconds from sending to the first token; null where none came. */
  readonly ttftMs: number | null;
  readonly totalMs: number;
  readonly tokens: number;
  readonly status: number;
  /** Tokens by exit layer, where the server says it. */
  readonly exits: Readonly<Record<string, number>> | null;
  readonly feasible: boolean | null;
  readonly predictedMs: number | null;
  /** What the server says that it took, and that the request waited. */
  readonly actualMs: number | null;
  readonly queueMs: number | null;
}

interface Event {
  readonly choices?: readonly { readonly text?: string }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly sortie?: {
    readonly plan: { readonly feasible: boolean };
    readonly exit_layers: Record<string, number>;
    readonly predicted_ms: number;
    readonly actual_ms: number;
    readonly queue_ms: number;
  };
}

/** Never throws for what the server answers; a connection that breaks counts as status 0. */
export async function complete(url: string, model: string, asked: Asked): Promise<Answered> {
  const sentAt = performance.now();
  let ttftMs: number | null = null;
  let tokens = 0;
  let status = 0;
  let report: Event['sortie'];
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...asked.headers },
      body: JSON.stringify({
        model,
        prompt: asked.prompt,
        max_tokens: asked.maxTokens,
        ignore_eos: true,
        temperature: 0,
        stream: true,
        stream_options: { include_usage: true },
      }),
    });
    status = response.status;
    for await (const event of events(response)) {
      if ((event.choices?.length ?? 0) > 0) ttftMs ??= performance.now() - sentAt;
      tokens = event.usage?.completion_tokens ?? tokens;
      report = event.sortie ?? report;
    }
  } catch {
    status = 0;
  }
  return {
    ttftMs,
    totalMs: performance.now() - sentAt,
    tokens,
    status,
    exits: report?.exit_layers ?? null,
    feasible: report?.plan.feasible ?? null,
    predictedMs: report?.predicted_ms ?? null,
    actualMs: report?.actual_ms ?? null,
    queueMs: report?.queue_ms ?? null,
  };
}

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
