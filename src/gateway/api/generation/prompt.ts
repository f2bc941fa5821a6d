/**
 * The tokens of a prompt, within a limit of the wait for them: until the client disconnects, its budget is over, or the
 * server stops.
 *
 * Must not know: chats, HTTP.
 */
import type { Budget } from '../../../protocol/index.js';
import { EncodingRejected } from '../../text/encoding/encoding-thread.js';
import type { EncodeInWorker } from '../../text/tokenizer.js';
import { monotonicMs } from '../../../util/clock.js';
import { quoted } from '../../../util/quoted.js';
import { TimeLimitError } from '../../../util/time-limit.js';
import { type ApiContext, type ApiRequest, readyEngine } from '../context.js';
import { ApiError, invalid } from '../errors.js';
import { queueFull, REFUSED } from './engine-errors.js';

/** One prompt in both forms. */
export interface Prompt {
  readonly ids: readonly number[];
  readonly text: string;
}

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
    const late = new AbortController();
    const end = (): void => {
      const message = 'The budget expired before the prompt was tokenized.';
      late.abort(new ApiError('budget_infeasible', message, null, { least_feasible_budget_ms: null, ...REFUSED }));
    };
    const timer = deadlineAt === null ? undefined : setTimeout(end, Math.max(0, deadlineAt - monotonicMs()));
    try {
      return await encoding.encode(text, addSpecial, AbortSignal.any([signal, late.signal]));
    } catch (error) {
      if (!(error instanceof EncodingRejected)) throw error;
      if (error.reason === 'closed') throw new ApiError('draining', 'The server is shutting down.');
      throw queueFull('Too many long texts are being tokenized');
    } finally {
      clearTimeout(timer);
    }
  };
}

/** Rules for turning a text into a prompt. */
export interface Encoding {
  readonly addSpecial: boolean;
  /** The field that holds the text, for errors. */
  readonly param: string;
  readonly waitLimit: WaitLimit;
  /**
   * Most tokens of the text; absent: the server's context. A byte limit bounds the work in any case: it rejects a text
   * with more bytes than the longest tokens could spell.
   */
  readonly most?: number;
}

/**
 * The rules for a text that is only counted: the count may exceed the context.
 * @param signal ends the wait of a client that disconnects
 */
export function countingRules(signal: AbortSignal): Pick<Encoding, 'waitLimit' | 'most'> {
  return { waitLimit: { signal, deadlineAt: null }, most: Infinity };
}

/**
 * Tokenizes a prompt as far as it can fit, without blocking other requests.
 * @throws ApiError context_length_exceeded, invalid_value (empty, a token outside the model's vocabulary, or a text
 * over which the tokenizer takes too long), or an error of `encodeWithin`
 */
export async function encodePrompt(
  context: ApiContext,
  text: string,
  { addSpecial, param, waitLimit, most }: Encoding,
): Promise<Prompt> {
  const { maxLength } = readyEngine(context);
  const { tokenizer } = context.model;
  const ids = tokenizer.mustExceed(text, maxLength)
    ? null
    : await tokenizer
        .encodeLong(text, addSpecial, most ?? maxLength, encodeWithin(context, waitLimit))
        .catch((error: unknown) => {
          if (!(error instanceof TimeLimitError)) throw error;
          throw invalid(param, `must be a text that the model's tokenizer splits in time: ${error.message}`);
        });
  if (ids === null) throw tooLong(maxLength, `over ${maxLength}`, null, param);
  if (ids.length === 0) throw invalid(param, 'must not be empty');
  const wrong = ids.find((id) => id >= tokenizer.vocabulary);
  if (wrong !== undefined) {
    const token = `${quoted(tokenizer.spelt(wrong))} (id ${wrong})`;
    const rule = `must hold tokens that the model knows, with ids up to ${tokenizer.vocabulary - 1}`;
    throw invalid(param, `${rule}, got ${token}`);
  }
  return { ids, text };
}

/** @throws ApiError context_length_exceeded if no answer can be so long, else as for a prompt */
export async function encodePrediction(
  context: ApiContext,
  text: string,
  waitLimit: WaitLimit,
): Promise<readonly number[]> {
  if (text === '') return [];
  return (await encodePrompt(context, text, { addSpecial: false, param: 'prediction.content', waitLimit })).ids;
}

/** The error for a prompt that does not fit. @param prompt its number of tokens */
export function tooLong(maxLength: number, prompt: string | number, maxTokens: number | null, param: string): ApiError {
  const asked = maxTokens === null ? '' : ` and asks for ${maxTokens} more`;
  // OpenAI's words come first: clients that shorten a conversation on this error recognize it by them.
  const rule = `This model's maximum context length is ${maxLength} tokens for prompt and answer together`;
  return new ApiError('context_length_exceeded', `${rule}; the prompt has ${prompt}${asked}.`, param);
}
