/** The requests of bench:goodput. */
import type { Asked } from '../../src/remote/stream.js';

/** A prompt with an answer of exactly `maxTokens` tokens. */
export function exactly(prompt: readonly number[], maxTokens: number): Asked {
  return { path: '/completions', body: { prompt, max_tokens: maxTokens, ignore_eos: true, temperature: 0 } };
}

/** A question with an answer that the model ends. @param limit max_tokens; the request omits it by default */
export function freely(question: string, limit?: number): Asked {
  const messages = [{ role: 'user', content: question }];
  const stated = limit === undefined ? {} : { max_tokens: limit };
  return { path: '/chat/completions', body: { messages, temperature: 0, ...stated } };
}
