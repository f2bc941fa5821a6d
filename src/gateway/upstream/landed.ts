/** The end of an answer that this server ended, and its report. Must not know: connections. */
import type { UpstreamCall } from './call.js';
import type { Ending } from '../../protocol/outcome.js';

/** Why an answer ended before its upstream ended it. */
export type LandingTrigger = 'deadline' | 'upstream_failed';

/** How an answer of an upstream ended early. */
export interface Landed {
  readonly trigger: LandingTrigger;
  /** Length of the text. */
  readonly characters: number;
  /** Whether a sentence ends there. Text that has gone out stays, so an answer may end in the middle of one. */
  readonly sentence: boolean;
}

/** The end of an answer as its client sees it. @param end null: no text may end it */
export function endingOf(end: { readonly isSentence: boolean } | null, isEmpty: boolean): Ending {
  return end === null ? { end: 'cut', isEmpty } : { end: end.isSentence ? 'landed' : 'cut' };
}

/** Whether the client gets the counts of tokens: always in a whole answer, and in a stream if it asks for them. */
export function asksUsage({ request }: UpstreamCall): boolean {
  const { stream, stream_options: options } = request.body;
  if (stream !== true) return true;
  return (
    typeof options === 'object' && options !== null && 'include_usage' in options && options.include_usage === true
  );
}

/** Counts of tokens, as an API of OpenAI has them. */
export interface Counts {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** @param prompt tokens of the prompt @param completion tokens of the answer */
export const countsOf = (prompt: number, completion: number): Counts => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

/** The counts of two models together. */
export const summed = ({ prompt_tokens = 0, completion_tokens = 0 }: Partial<Counts>, more: Counts): Counts =>
  countsOf(prompt_tokens + more.prompt_tokens, completion_tokens + more.completion_tokens);
