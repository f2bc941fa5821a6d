/** The state of a chat: its turns, and the settings of the next request. */
import type { Asked } from '../../bench/remote/stream.js';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export class ChatSession {
  /** Total latency budget in ms; null for none. */
  budgetMs: number | null = null;
  /** Pinned exit layer; null leaves it to the server. */
  exitLayer: number | null = null;
  /** Most tokens of an answer; null leaves it to the server. */
  maxTokens: number | null = null;
  /** System prompt; null for none. */
  system: string | null = null;
  #turns: Message[] = [];

  /** Forgets the conversation and keeps the settings. */
  reset(): void {
    this.#turns = [];
  }

  /** The request for a question after the turns so far. */
  asked(question: string): Asked {
    const system: Message[] = this.system === null ? [] : [{ role: 'system', content: this.system }];
    const messages = [...system, ...this.#turns, { role: 'user', content: question }];
    const bound = this.maxTokens === null ? {} : { max_tokens: this.maxTokens };
    return { path: '/chat/completions', body: { messages, ...bound } };
  }

  /** Headers of Sortie for budget and depth. */
  headers(): Record<string, string> {
    return {
      ...(this.budgetMs === null ? {} : { 'x-latency-budget-ms': String(this.budgetMs) }),
      ...(this.exitLayer === null ? {} : { 'x-exit-layer': String(this.exitLayer) }),
    };
  }

  /** Adds a turn. An answer without text stays out, as does its question: most chat templates reject empty turns. */
  add(question: string, answer: string): void {
    if (answer === '') return;
    this.#turns.push({ role: 'user', content: question }, { role: 'assistant', content: answer });
  }
}
