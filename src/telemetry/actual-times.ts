/** The times of a sequence as its client saw them. */
import type { EndedEvent } from '../engine/protocol.js';

interface Observed {
  readonly arrivedAt: number;
  /** When its last token was drawn; null without a token. */
  readonly lastAt: number | null;
  readonly tokens: number;
}

/** Times in ms; null without a first token, or without a second one. */
export function actualTimes({ arrivedAt, lastAt, tokens }: Observed, { firstTokenAt, endedAt }: EndedEvent) {
  return {
    ttftMs: firstTokenAt === null ? null : Math.max(0, firstTokenAt - arrivedAt),
    tpotMs: firstTokenAt === null || tokens < 2 ? null : Math.max(0, (lastAt ?? endedAt) - firstTokenAt) / (tokens - 1),
    totalMs: Math.max(0, endedAt - arrivedAt),
  };
}
