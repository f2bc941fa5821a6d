/**
 * Limits the wait for the tokens of a prompt: until the client disconnects, its budget is over, or the server stops.
 *
 * Must not know: prompts, HTTP.
 */
import { monotonicMs } from '../../util/clock.js';
import type { Budget } from '../../engine/protocol.js';
import { ApiError } from '../errors.js';
import { EncodingRejected } from '../../text/encoding/encoding-thread.js';
import type { EncodeInWorker } from '../../text/tokenizer.js';
import type { ApiContext, ApiRequest } from '../context.js';

export interface WaitLimit {
  /** Aborts with `ClientGone`. */
  readonly signal: AbortSignal;
  /** The instant on the monotonic clock after which the answer has no use, or null. */
  readonly deadlineAt: number | null;
}

export function waitLimitOf(
  { signal, arrivedAt }: Pick<ApiRequest<unknown>, 'signal' | 'arrivedAt'>,
  budget: Budget | null,
): WaitLimit {
  const ends = budget !== null && budget.totalMs !== null && budget.onMiss !== 'continue';
  return { signal, deadlineAt: ends ? arrivedAt + budget.totalMs : null };
}

/**
 * Encodes in the worker, within the wait limit. Abort and deadline are watched only while a text is being encoded, and
 * most prompts do not use the worker.
 * @returns a function that throws ApiError budget_infeasible, queue_full or draining, or ClientGone
 */
export function encodeWithin(
  { encoding }: Pick<ApiContext, 'encoding'>,
  { signal, deadlineAt }: WaitLimit,
): EncodeInWorker {
  return async (text, addSpecial) => {
    const over = new AbortController();
    const leave = (): void => {
      over.abort(signal.reason);
    };
    const late = (): void => {
      const message = 'The budget expired before the prompt was tokenized.';
      over.abort(new ApiError('budget_infeasible', message, null, { least_feasible_budget_ms: null }));
    };
    const timer = deadlineAt === null ? undefined : setTimeout(late, Math.max(0, deadlineAt - monotonicMs()));
    signal.addEventListener('abort', leave);
    if (signal.aborted) leave();
    try {
      return await encoding.encode(text, addSpecial, over.signal);
    } catch (error) {
      if (!(error instanceof EncodingRejected)) throw error;
      if (error.reason === 'closed') throw new ApiError('draining', 'The server is shutting down.');
      throw new ApiError('queue_full', 'Too many long texts are being tokenized; try again shortly.');
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', leave);
    }
  };
}
