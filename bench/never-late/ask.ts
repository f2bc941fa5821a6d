/** One request of the bench, and what its client has of the answer. */
import { RemoteError } from '../remote/server-error.js';
import { serverAt } from '../remote/server.js';
import { type SortieReport, streamAnswer } from '../remote/stream.js';
import { monotonicMs } from '../../src/util/clock.js';

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
  /** The field `sortie` of a whole answer; null without one. */
  readonly report: SortieReport | null;
}

/** A request that fails has the text so far. */
export async function ask({ url, model, question, budgetMs, maxTokens, tellsBudget, limitMs }: Asked): Promise<Got> {
  const startedAt = monotonicMs();
  const messages = [{ role: 'user', content: question }];
  const body = { messages, max_tokens: maxTokens, temperature: 0 };
  const asking = {
    ...(tellsBudget && { headers: { 'x-latency-budget-ms': String(budgetMs) } }),
    ...(limitMs !== null && { signal: AbortSignal.timeout(limitMs) }),
  };
  let text = '';
  let isWhole = false;
  let report: SortieReport | null = null;
  try {
    for await (const part of streamAnswer(serverAt(url, null), model, { path: '/chat/completions', body }, asking)) {
      text += part.text;
      report ??= part.report;
      isWhole ||= part.finishReason !== null;
    }
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error;
    isWhole = false;
  }
  return { text, isWhole, ms: monotonicMs() - startedAt, report };
}
