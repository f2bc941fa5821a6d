/** The end of an answer that this server ended, and its report. Must not know: connections. */
import type { UpstreamCall } from './call.js';
import type { Ending } from '../../protocol/outcome.js';
import type { Landed } from '../telemetry/answer-record.js';

/** Why an answer ended before its upstream ended it. */
export type LandingTrigger = Exclude<Landed['trigger'], 'budget'>;

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

/** Counts of tokens, as an API of OpenAI has them. SDKs keep the mark of estimates as an extra field. */
export interface Counts {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly estimated?: true;
}

/** @param prompt tokens of the prompt @param completion tokens of the answer */
export const countsOf = (prompt: number, completion: number, isEstimate = false): Counts => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  ...(isEstimate && { estimated: true }),
});

/** The counts of two models together. */
export const summed = (one: Counts, other: Counts | null): Counts =>
  other === null
    ? one
    : countsOf(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.estimated === true || other.estimated === true,
      );
