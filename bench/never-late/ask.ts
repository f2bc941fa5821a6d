/** One request of the bench, and what its client has of the answer. */
import { createParser } from 'eventsource-parser';
import { monotonicMs } from '../../src/util/clock.js';
import { post } from '../post.js';

export interface Asked {
  readonly url: string;
  readonly model: string;
  readonly question: string;
  readonly budgetMs: number;
  readonly maxTokens: number;
  /** Whether the gateway gets the budget. */
  readonly tellsBudget: boolean;
  /** When the client gives up; null: it waits for the end. */
  readonly limitMs: number | null;
}

export interface Got {
  readonly text: string;
  /** Whether it has an end and no error. */
  readonly isWhole: boolean;
  /** From the request to the last byte, or to the moment when the client gives up. */
  readonly ms: number;
}

interface Chunk {
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly error?: unknown;
}

/** A request that fails has the text so far. */
export async function ask({ url, model, question, budgetMs, maxTokens, tellsBudget, limitMs }: Asked): Promise<Got> {
  const startedAt = monotonicMs();
  const messages = [{ role: 'user', content: question }];
  const body = { model, messages, max_tokens: maxTokens, temperature: 0, stream: true };
  const got = { text: '', isEnded: false, isFailed: false };
  const parser = createParser({
    onEvent: ({ data }) => {
      if (data === '[DONE]') return;
      const { choices, error } = JSON.parse(data) as Chunk;
      got.isFailed ||= error !== undefined;
      got.text += choices?.[0]?.delta?.content ?? '';
      got.isEnded ||= typeof choices?.[0]?.finish_reason === 'string';
    },
  });
  try {
    const response = await post(`${url}/v1/chat/completions`, body, {
      ...(tellsBudget && { headers: { 'x-latency-budget-ms': String(budgetMs) } }),
      ...(limitMs !== null && { signal: AbortSignal.timeout(limitMs) }),
    });
    got.isFailed = !response.ok;
    const decoder = new TextDecoder();
    for await (const bytes of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      if (response.ok) parser.feed(decoder.decode(bytes, { stream: true }));
    }
  } catch {
    got.isFailed = true;
  }
  return { text: got.text, isWhole: got.isEnded && !got.isFailed, ms: monotonicMs() - startedAt };
}
