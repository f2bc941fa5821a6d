/**
 * The body of a request to an upstream as a request to the local model, and its sleep in the engine. The engine arms or
 * rejects it, and wakes it at its latest start. The requests that may have a net, and the faults that start one.
 *
 * Must not know: nets, connections, HTTP frameworks.
 */
import type { ApiContext, ApiRequest } from '../api/context.js';
import { chatCompletions } from '../api/endpoints/chat-completions/chat-completions.js';
import { completions } from '../api/endpoints/completions.js';
import type { GeneratingEndpoint } from '../api/endpoints/endpoint.js';
import { ApiError, invalid } from '../api/errors.js';
import type { GenerationRequest } from '../api/generation/read-request.js';
import type { ArmedEvent, EngineRequest, RejectedEvent } from '../../protocol/index.js';
import { validatorOf } from '../../util/schema.js';
import { validationMessage } from '../../util/validation-message.js';
import { isGuided, isList, type OpenBody, type PlainAnswer, type UpstreamCall } from './call.js';
import type { Deadline } from './deadline.js';
import { without } from './json-fields.js';

/** Why a request has no net, as the header says it. */
export type NoNet =
  | 'off'
  | 'no_model'
  | 'on_miss'
  | 'functions'
  | 'grammar'
  | 'unsupported'
  | 'context'
  | 'budget'
  | 'capacity'
  | 'not_ready'
  | 'not_forecast';

/** Why no net can stand in for an answer of this form; null if one can. */
export function barOf({ request: { body } }: UpstreamCall): NoNet | null {
  if (isList(body.functions)) return 'functions';
  return isGuided(body) ? 'grammar' : null;
}

/** Why the local model can't answer a body. @param error of its checks */
export const barOfError = ({ code }: ApiError): NoNet =>
  code === 'context_length_exceeded' ? 'context' : code === 'loading' ? 'not_ready' : 'unsupported';

/** Milliseconds that an answer asks its client to wait; NaN if it names none that can be read. */
function waitOf({ headers }: PlainAnswer, date: number): number {
  const { 'retry-after-ms': ms = '', 'retry-after': after = '' } = headers;
  const number = (text: string): number => (/^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN);
  return [number(ms), number(after) * 1000].find((each) => !Number.isNaN(each)) ?? Date.parse(after) - date;
}

/**
 * Whether a net answers in place of this response: a failure of the server, or a limit beyond the net's latest start.
 * An answer that refuses the request passes on.
 * @param roomMs until the latest start
 * @param date the present, ms since 1970
 */
export function isNetted(answer: PlainAnswer, roomMs: number, date: number): boolean {
  // Without a time the wait may be of any length.
  return answer.status >= 500 || (answer.status === 429 && !(waitOf(answer, date) <= roomMs));
}

/** A body that passed the checks of the local model. */
export interface LocalRequest {
  readonly request: ApiRequest<object>;
  readonly read: GenerationRequest;
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
export async function localRequest(
  context: ApiContext,
  call: UpstreamCall,
  times: Deadline['localTimes'],
): Promise<LocalRequest> {
  const { endpoint, isBody } = ENDPOINTS[call.path];
  const sortie = { ...times, budget_on_miss: 'land' };
  const asked = withoutNulls(without(call.request.body, 'sortie', 'model', 'stream', 'stream_options')) as OpenBody;
  const body: OpenBody = { ...asked, stream: true, sortie };
  if (!isBody(body)) {
    throw invalid('The body', `can't be answered by the local model: ${validationMessage(endpoint.body, body) ?? ''}`);
  }
  // The depth of the header is for the local model's own callers.
  const request: ApiRequest<object> = { ...call.request, headers: {}, body };
  const read = await endpoint.read(context, request).catch((error: unknown) => {
    // A stated length may be beyond the local context. Then the answer has the room that the prompt leaves.
    if (!(error instanceof ApiError) || error.code !== 'context_length_exceeded') throw error;
    return endpoint.read(context, { ...request, body: without(body, 'max_tokens', 'max_completion_tokens') });
  });
  return { request, read: { ...read, engine: { ...read.engine, isNet: true }, modelName: call.model } };
}

export interface Asleep {
  /** Instant at which the engine wakes it. */
  readonly latestStart: number;
  /** Their next ones come when it wakes, or the engine is lost. */
  readonly events: NonNullable<GenerationRequest['begun']>;
}

const NO_NET: Readonly<Record<RejectedEvent['reason'], NoNet>> = {
  budget_infeasible: 'budget',
  queue_full: 'capacity',
  too_long: 'context',
  unknown_token: 'unsupported',
  grammar: 'unsupported',
  grammars_lost: 'not_ready',
};

/**
 * Asks the engine for a net.
 * @param request of the local answer
 * @param signal gives it up
 * @returns why there is none
 */
export async function fallAsleep(
  { engine }: ApiContext,
  request: EngineRequest,
  signal: AbortSignal,
): Promise<Asleep | NoNet> {
  if (engine.ready === null || signal.aborted) return 'not_ready';
  const tokens = request.prompts.reduce((sum, { length }) => sum + length, 0);
  if (!engine.hasRoom(request.tenant ?? '', request.sequences.length, tokens)) return 'capacity';
  const events = engine.generate(request);
  signal.addEventListener('abort', () => void events.return(), { once: true });
  const armed: ArmedEvent[] = [];
  while (armed.length < request.sequences.length) {
    const { value = [], done } = await events.next();
    const rejected = value.find((each) => each.type === 'rejected');
    if (rejected !== undefined) return NO_NET[rejected.event.reason];
    if (done === true || value.some(({ type }) => type === 'lost' || type === 'ended')) return 'not_ready';
    armed.push(...value.flatMap((each) => (each.type === 'armed' ? [each.event] : [])));
    events.putBack(value.filter(({ type }) => type !== 'armed'));
  }
  return { events, latestStart: Math.min(...armed.map(({ latestStart }) => latestStart)) };
}
