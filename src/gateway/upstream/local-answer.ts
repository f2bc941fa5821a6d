/**
 * The local model's answer to a request to an upstream: the same body as a request to the local model, in pieces.
 *
 * Must not know: nets, connections, HTTP frameworks.
 */
import type { ApiContext, ApiRequest } from '../api/context.js';
import { chatCompletions } from '../api/endpoints/chat-completions/chat-completions.js';
import { completions } from '../api/endpoints/completions.js';
import type { GeneratingEndpoint } from '../api/endpoints/endpoint.js';
import { ApiError, ClientGone, invalid, toApiError } from '../api/errors.js';
import type { Answer } from '../api/generation/answer.js';
import type { Piece } from '../api/generation/choice.js';
import type { GenerationRequest } from '../api/generation/read-request.js';
import { begun, recorded } from '../api/generation/serve.js';
import type { SortieRequest } from '../api/schemas/shared.js';
import type { AnswerRecord } from '../telemetry/answer-record.js';
import { validatorOf } from '../../util/schema.js';
import { validationMessage } from '../../util/validation-message.js';
import type { OpenBody, UpstreamCall } from './call.js';
import { without } from './json-fields.js';

/** A body that passed the checks of the local model. */
export interface LocalRequest {
  readonly context: ApiContext;
  readonly request: ApiRequest<object>;
  readonly read: GenerationRequest;
}

/** The budget of a local answer. */
export type LocalTimes = Pick<SortieRequest, 'latency_budget_ms' | 'slo_ttft_ms' | 'first_sentence_ms'>;

export interface LocalSink {
  add(piece: Piece): void;
  /** Resolves once the client has read on. Null while it keeps up. */
  drained(): Promise<void> | null;
}

/** How a local answer ended. */
export interface LocalEnd {
  /** Null: it has failed, or was cancelled. */
  readonly record: AnswerRecord | null;
  readonly error: ApiError | null;
  /** Of prompt and answer. */
  readonly tokens: number;
}

const local = (endpoint: GeneratingEndpoint<object>) => ({ endpoint, isBody: validatorOf(endpoint.body) });

const ENDPOINTS: Readonly<Record<UpstreamCall['path'], ReturnType<typeof local>>> = {
  '/chat/completions': local(chatCompletions),
  '/completions': local(completions),
};

/** A null equals a missing field, as in each body of the local model. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const stated = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(stated.map(([name, field]) => [name, withoutNulls(field)]));
}

/**
 * Reads the body of a call as a request to the local model that lands within its budget.
 * @param times from the arrival of the request
 * @throws ApiError for a body that the local model can't answer
 */
export async function localRequest(context: ApiContext, call: UpstreamCall, times: LocalTimes): Promise<LocalRequest> {
  const { endpoint, isBody } = ENDPOINTS[call.path];
  const sortie = { ...times, budget_on_miss: 'land' };
  const asked = withoutNulls(without(call.request.body, 'sortie', 'model', 'stream', 'stream_options')) as OpenBody;
  const body: OpenBody = { ...asked, stream: true, sortie };
  if (!isBody(body)) {
    throw invalid('The body', `can't be answered by the local model: ${validationMessage(endpoint.body, body) ?? ''}`);
  }
  // The depth of the header is for the local model's own callers.
  const request: ApiRequest<object> = { ...call.request, headers: {}, body };
  const read = await readInContext(context, endpoint, request);
  return { context, request, read: { ...read, engine: { ...read.engine, isNet: true }, modelName: call.model } };
}

/** A stated length may be beyond the local context. Then the answer has the room that the prompt leaves. */
async function readInContext(
  context: ApiContext,
  endpoint: GeneratingEndpoint<object>,
  request: ApiRequest<object>,
): Promise<GenerationRequest> {
  try {
    return await endpoint.read(context, request);
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'context_length_exceeded') throw error;
    const body = without({ ...request.body }, 'max_tokens', 'max_completion_tokens');
    return await endpoint.read(context, { ...request, body });
  }
}

/**
 * Makes the answer.
 * @param signal cancels it, with `ClientGone`
 */
export async function localAnswer(
  { context, request, read }: LocalRequest,
  sink: LocalSink,
  signal: AbortSignal,
): Promise<LocalEnd> {
  let tokens = 0;
  // The request and an estimate of its tokens are taken from the allowance of its key already.
  const caller = { ...request.caller, reserve: () => (used: number) => (tokens = used) };
  const asked = { ...request, caller, signal, addCancelFields: () => undefined, answered: () => undefined };
  let answer: Answer | null = null;
  try {
    answer = begun(context, asked, read, true);
    for await (const piece of answer.pieces(sink)) sink.add(piece);
    recorded(asked, answer, read.id);
    return { record: answer.record(), error: null, tokens };
  } catch (thrown) {
    return {
      record: null,
      error: thrown instanceof ClientGone ? null : (answer?.failed(thrown) ?? toApiError(thrown)),
      tokens,
    };
  }
}
