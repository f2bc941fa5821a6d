/**
 * The parts of an endpoint that generates, and its two ways to answer: in one body, or as a stream of events.
 *
 * Must not know: the forms of any one endpoint, HTTP.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Sampling } from '../../../protocol/index.js';
import { monotonicMs } from '../../../util/clock.js';
import { Answer } from './answer.js';
import type { Choice, Piece } from './choice.js';
import { ApiError, ClientGone } from '../errors.js';
import type { ApiContext, ApiRequest, Caller, EventStream } from '../context.js';
import type { ServedModel } from '../served-model.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import type { Prompt } from './prompt.js';
import type { Usage } from '../schemas/shared.js';
import { budgetOf, type GenerationRequest } from './read-request.js';
import type { GenerationBody } from '../schemas/shared.js';
import { refusedRecord } from './report.js';
import { jsonPieces } from './json-pieces.js';
import type { Attributes } from '../../telemetry/trace.js';

/** The parts of an answer that forms read: of the local model, or of one elsewhere. */
export interface FormAnswer {
  /** Unix seconds. */
  readonly created: number;
  readonly choices: readonly Pick<
    Choice,
    'finishReason' | 'stopString' | 'completionTokens' | 'exitLayers' | 'promptLogprobs'
  >[];
  readonly request: Pick<GenerationRequest, 'id' | 'modelName' | 'echo' | 'includeUsage' | 'continuousUsage'> & {
    readonly engine: {
      readonly sampling: Pick<Sampling, 'temperature' | 'topP' | 'presencePenalty' | 'frequencyPenalty'>;
      readonly logprobs: number | null;
      readonly sequences: readonly { readonly maxTokens: number }[];
    };
  };
  readonly model: {
    /** Of tokens with log-probabilities; null: the answer has none. */
    readonly tokenizer: TextTokenizer | null;
    /** Null: the model has no chats, or is elsewhere. */
    readonly chat: ServedModel['chat'];
  };
  /** Fields of the upstream's own at the top of its answer; absent: none. */
  readonly fields?: Readonly<Record<string, unknown>>;
  promptOf(index: number): Prompt;
  usage(): Usage;
  /** Undefined: the answer has none. */
  report(): object | undefined;
}

/** Writes one answer in the form of its endpoint, whole or as events. */
export interface Form {
  /** Takes the next piece of the answer. */
  add(piece: Piece): void;
  /** Ends the answer. @returns the body of a whole one, without the report */
  end(): { readonly id: string };
  /** The answer failed after the status line, which may be before the first event. */
  failed(error: ApiError): void;
}

/** How an endpoint reads its body, and writes its answer. */
export interface Answering<Body> {
  /** The client's name of its user, for the log. */
  userOf(body: Body): string | undefined;
  /** @throws ApiError for a request that the endpoint rejects */
  read(context: ApiContext, request: ApiRequest<Body>): Promise<GenerationRequest>;
  /** @param send sends one event of a stream; absent: the answer goes out whole */
  form(request: Pick<ApiRequest<Body>, 'id' | 'body'>, answer: FormAnswer, send?: EventStream['send']): Form;
  /** The data of the last event of every stream; null for none. */
  readonly terminator: string | null;
}

/** The JSON of a whole answer. */
export interface WholeBody {
  readonly first: string;
  /** The rest of a long one, made while it is read. */
  readonly rest: Iterable<string> | null;
}

/** The first pieces are written here, so that most faults of a form end the answer as a fault. */
function writtenBody(body: object): WholeBody {
  const pieces = jsonPieces(body);
  const first = pieces.next();
  const second = pieces.next();
  const [begin = '', next] = [first, second].map(({ value }) => value ?? undefined);
  return next === undefined ? { first: begin, rest: null } : { first: begin + next, rest: pieces };
}

/**
 * Serves the answer in one body.
 * @throws ApiError if the request is rejected or fails, ClientGone if the client disconnects: the answer is cancelled
 */
export async function serveWhole<Body>(
  context: ApiContext,
  request: ApiRequest<Body>,
  endpoint: Answering<Body>,
): Promise<{ readonly headers: Readonly<Record<string, string>>; readonly body: WholeBody }> {
  const answer = await accepted(context, request, endpoint, false);
  const form = endpoint.form(request, answer);
  try {
    for await (const piece of answer.pieces()) form.add(piece);
    const body = form.end();
    const written = writtenBody({ ...body, sortie: answer.report() });
    recorded(request, answer, body.id);
    return { headers: answer.headers(), body: written };
  } catch (thrown) {
    if (thrown instanceof ClientGone) throw thrown;
    const error = await failed(context, request, answer, thrown);
    request.signal.throwIfAborted();
    throw error;
  }
}

/**
 * Streams an answer to its end. The status line goes out with the first token, so that a rejection is still a plain
 * error.
 * @param open takes the response over once the request is accepted; the status line has the answer's headers
 * @throws ApiError like serveWhole, until the response is taken over
 */
export async function serveStream<Body>(
  context: ApiContext,
  request: ApiRequest<Body>,
  endpoint: Answering<Body>,
  open: (answer: Answer) => EventStream,
): Promise<void> {
  const answer = await accepted(context, request, endpoint, true);
  const out = open(answer);
  const form = endpoint.form(request, answer, (event, name) => {
    out.send(event, name);
  });
  try {
    for await (const piece of answer.pieces(out)) form.add(piece);
    recorded(request, answer, form.end().id);
  } catch (thrown) {
    if (thrown instanceof ClientGone) return;
    const error = await failed(context, request, answer, thrown);
    // A stream that has begun has status 200, so the status in the log line would hide the failure.
    request.addLogFields(error.logged());
    if (out.reject(error)) return;
    form.failed(error);
  }
  out.end(endpoint.terminator);
}

async function accepted<Body>(
  context: ApiContext,
  request: ApiRequest<Body>,
  endpoint: Answering<Body>,
  isStream: boolean,
): Promise<Answer> {
  try {
    return begun(context, request, await endpoint.read(context, request), isStream);
  } catch (thrown) {
    const body = request.body as Pick<GenerationBody, 'model' | 'sortie'>;
    const isAnswer = thrown instanceof ApiError && body.sortie?.dry_run !== true;
    const outcome = isAnswer ? thrown.outcome(false) : null;
    if (outcome === null) throw thrown;
    const budget = budgetOf(context, { ...request, body });
    request.answered(
      refusedRecord(outcome, body.model ?? context.model.name, budget, monotonicMs() - request.arrivedAt),
    );
    throw thrown;
  }
}

/** The answer to a request that has passed all checks. @throws ApiError beyond an allowance */
export function begun(
  context: ApiContext,
  request: ApiRequest<unknown>,
  read: GenerationRequest,
  isStream: boolean,
): Answer {
  request.trace?.describe(askedAttributes(read, isStream));
  const giveScores = context.scores.take(request.caller.tenant, read.scores);
  const answer = new Answer(context, read, request, isStream, reserved(request.caller, read, giveScores));
  request.addCancelFields(() => tokenFields(answer));
  return answer;
}

/** Takes the request's part of its client's allowance. @returns gives it back, with the scores */
function reserved(caller: Caller, { quota }: GenerationRequest, giveScores: () => void): (used: number) => void {
  try {
    const release = caller.reserve(quota);
    return (used) => {
      giveScores();
      release(used);
    };
  } catch (error) {
    giveScores();
    throw error;
  }
}

/** @param id the client's */
export function recorded(request: ApiRequest<unknown>, answer: Answer, id: string): void {
  request.trace?.describe(answeredAttributes(answer, id));
  if (answer.request.engine.isDryRun === true) request.addLogFields(tokenFields(answer));
  else request.answered(answer.record());
}

/** Holds a refusal, or the error of an empty answer, for the pace of its client, unless that disconnects. */
async function paced(
  { refusals }: ApiContext,
  { caller, signal }: Pick<ApiRequest<unknown>, 'caller' | 'signal'>,
  { extra }: ApiError,
): Promise<void> {
  if (!('outcome' in extra)) return;
  const ms = refusals.holdMs(caller.tenant, monotonicMs());
  if (ms > 0) await delay(ms, undefined, { signal }).catch(() => undefined);
}

/** The end of an answer that fails. @returns the error for the client */
async function failed(
  context: ApiContext,
  request: ApiRequest<unknown>,
  answer: Answer,
  thrown: unknown,
): Promise<ApiError> {
  const error = answer.failed(thrown);
  request.trace?.describe({ 'error.type': error.code });
  await paced(context, request, error);
  const record = answer.record(error);
  if (answer.request.engine.isDryRun !== true) request.answered(record);
  return error.of(record.outcome);
}

/** The tokens so far. */
function tokenFields(answer: Answer): Record<string, unknown> {
  const { prompt_tokens, completion_tokens } = answer.usage();
  const { modelName, engine } = answer.request;
  // Without completion_tokens the line is not an answered request.
  return { model: modelName, prompt_tokens, ...(engine.isDryRun === true ? { dry_run: true } : { completion_tokens }) };
}

/**
 * Trace attributes of the request, named by OpenTelemetry's GenAI conventions where they exist. They hold no text of
 * prompts and answers, and so no stop strings.
 */
function askedAttributes({ modelName, n, engine }: GenerationRequest, isStream: boolean): Attributes {
  const { sequences, sampling, grammar, depth } = engine;
  const { budget } = depth;
  const { temperature, topP, topK, frequencyPenalty, presencePenalty } = sampling;
  return {
    'gen_ai.request.model': modelName,
    'gen_ai.request.stream': isStream,
    'gen_ai.output.type': grammar?.kind === 'json' ? 'json' : 'text',
    'gen_ai.request.max_tokens': Math.max(...sequences.map(({ maxTokens }) => maxTokens)),
    'gen_ai.request.temperature': temperature,
    'gen_ai.request.top_p': topP,
    'gen_ai.request.top_k': topK > 0 ? topK : undefined,
    'gen_ai.request.frequency_penalty': frequencyPenalty === 0 ? undefined : frequencyPenalty,
    'gen_ai.request.presence_penalty': presencePenalty === 0 ? undefined : presencePenalty,
    'gen_ai.request.seed': sequences[0]?.seed ?? undefined,
    'gen_ai.request.choice.count': n === 1 ? undefined : n,
    'sortie.min_exit_layer': depth.minExit,
    'sortie.max_exit_layer': depth.maxExit,
    'sortie.budget_ms': budget?.totalMs ?? undefined,
    'sortie.slo_ttft_ms': budget?.ttftMs ?? undefined,
    'sortie.slo_tpot_ms': budget?.tpotMs ?? undefined,
    'sortie.first_sentence_budget_ms': budget?.sentenceMs,
    'sortie.budget_on_miss': budget?.onMiss,
  };
}

/**
 * Trace attributes of the answer that its record has not.
 * @param id the id that the client gets
 */
function answeredAttributes(answer: Answer, id: string): Attributes {
  const { plan } = answer.record().details;
  return {
    'gen_ai.response.id': id,
    'gen_ai.response.finish_reasons': answer.choices.flatMap(({ finishReason }) => finishReason ?? []),
    'gen_ai.usage.cache_read.input_tokens': answer.usage().prompt_tokens_details.cached_tokens,
    'sortie.plan.exit_layer': plan.exit_layer,
    'sortie.plan.reason': plan.reason,
  };
}
