/** An answer of bench:everyday, and the pressure that it was given under. */
import type { EverydayRequest } from './requests.js';

/** An exit layer with a constant end pressure: a bias on the logits of the end tokens. */
export interface Setting {
  readonly exit: number;
  readonly pressure: number;
}

export interface Answer extends Setting {
  readonly request: EverydayRequest;
  readonly text: string;
  readonly tokens: number;
  /** Whether the answer ended by itself, below the cap. */
  readonly isComplete: boolean;
}

/** The bias of a pressure as a field of a request; no field for pressure 0. */
export function pressed(endTokens: readonly number[], pressure: number): Record<string, unknown> {
  if (pressure === 0) return {};
  return { logit_bias: Object.fromEntries(endTokens.map((token) => [String(token), pressure])) };
}
