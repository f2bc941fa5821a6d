/** The fields of a body for an upstream that this server reads: its own, and lengths for the allowance of the key. */
import { budgetOf } from '../api/generation/read-request.js';
import { type ApiRequest, type Limits, MOST_CHOICES, openPolicy, policyOf } from '../api/context.js';
import { invalid } from '../api/errors.js';
import { totalBudget } from '../api/params/budget.js';
import { NET_MODES, type NetMode } from '../../cli/options/upstream-sections.js';
import { ASKED, headerWord } from '../api/schemas/headers.js';
import { SortieRequest } from '../api/schemas/shared.js';
import type { Budget } from '../../protocol/index.js';
import { type Static, Type, validatorOf, words } from '../../util/schema.js';
import { validationMessage } from '../../util/validation-message.js';
import { answersOf, formOf, type OpenBody, promptsOf, type UpstreamCall } from './call.js';
import { without } from './json-fields.js';
import type { Upstream, UpstreamModel } from './upstream.js';

const { latency_budget_ms, budget_on_miss, slo_ttft_ms, first_sentence_ms } = SortieRequest.properties;

/** The fields of `sortie` that have an effect on an upstream's answer. */
const UpstreamSortie = Type.Object(
  {
    latency_budget_ms,
    slo_ttft_ms,
    first_sentence_ms,
    budget_on_miss,
    commit: Type.Optional(Type.Union([Type.Literal('text'), Type.Literal('sentence')])),
    net: Type.Optional(words([...NET_MODES])),
  },
  { additionalProperties: false },
);
type UpstreamSortie = Static<typeof UpstreamSortie>;
const isOwn = validatorOf(UpstreamSortie);

/** The part of an answer that its client has first: a whole sentence, or any content. */
export interface FirstPart {
  readonly ms: number;
  readonly isSentence: boolean;
}

/** The settings of a request to an upstream. */
export interface UpstreamSettings {
  /** Null: the request states none, so the answer passes unchanged. */
  readonly budget: (Budget & { readonly totalMs: number }) | null;
  /** The part that is due first; null: none has an instant of its own. */
  readonly first: FirstPart | null;
  /** Whether text goes out in whole sentences only. */
  readonly holdsSentences: boolean;
  readonly net: NetMode;
}

/**
 * The request wins over its key, the key over the model, the model over the server.
 * @throws ApiError invalid_value
 */
export function settingsOf(
  { policy: ofServer }: Pick<Limits, 'policy'>,
  request: ApiRequest<OpenBody>,
  { latencyBudgetMs: totalMs, onMiss, commit: usual, net: ofModel }: UpstreamModel['defaults'],
  mode: NetMode,
): UpstreamSettings {
  const { commit = usual, net, ...stated } = ownFields(request.body);
  const policy = policyOf(ofServer, { ...openPolicy, defaultBudget: totalBudget(totalMs), onMiss, net: ofModel });
  const budget = budgetOf({ limits: { policy } }, { ...request, body: { sortie: stated } });
  return {
    budget: budget?.totalMs == null ? null : { ...budget, totalMs: budget.totalMs },
    first: firstPart(budget, request),
    holdsSentences: commit === 'sentence',
    net: net ?? headerWord(request.headers, ASKED.net, NET_MODES) ?? request.caller.policy.net ?? policy.net ?? mode,
  };
}

/** A whole body has no first part, and text alone has sentences. The time of a sentence wins over that of a token. */
function firstPart(budget: Budget | null, request: ApiRequest<OpenBody>): FirstPart | null {
  const { sentenceMs = null, ttftMs = null } = budget ?? {};
  const ms = sentenceMs ?? ttftMs;
  return ms === null || request.body.stream !== true || !formOf({ request }).mayLand
    ? null
    : { ms, isSentence: sentenceMs !== null };
}

/** The field of this server. A null counts as a missing field. @throws ApiError invalid_value */
function ownFields({ sortie }: OpenBody): UpstreamSortie {
  if (sortie === undefined || sortie === null) return {};
  const stated = Object.fromEntries(Object.entries(sortie).filter(([, value]) => value !== null));
  if (typeof sortie === 'object' && isOwn(stated)) return stated;
  const fault = validationMessage(UpstreamSortie, typeof sortie === 'object' ? stated : sortie);
  throw invalid('sortie', `of a request to an upstream model is wrong: ${fault ?? 'it must be an object'}`);
}

/**
 * The body that the upstream gets: the client's, without the field of this server and with the upstream's model. A
 * stream has its counts of tokens, which the key of the client pays.
 */
export function forwardedBody({ body }: ApiRequest<OpenBody>, { model }: Upstream, changes: OpenBody = {}): OpenBody {
  const asked = { ...without(body, 'sortie'), model, ...changes };
  const { stream, stream_options: options } = asked as OpenBody;
  if (stream !== true) return asked;
  return { ...asked, stream_options: { ...(typeof options === 'object' && options), include_usage: true } };
}

/** Names of vLLM, llama.cpp, text-generation-webui, TabbyAPI and Ollama for lengths, and for answers to a prompt. */
const LENGTHS = `max_tokens max_completion_tokens max_new_tokens max_output_tokens max_length n_predict num_predict
  min_tokens min_new_tokens min_length`.split(/\s+/);
const ANSWERS = ['n', 'best_of', 'n_cmpl'];
/** Tokens that an allowance must hold for an answer without a stated length, and characters of a token. */
const UNSTATED_TOKENS = 256;
const TOKEN_CHARACTERS = 4;

/**
 * Applies the longest answer of an API key: the default of requests that state no length, and a bound of the others.
 * @throws ApiError invalid_value
 */
export function withCap({ path, request }: Pick<UpstreamCall, 'path' | 'request'>): ApiRequest<OpenBody> {
  const { body, caller } = request;
  const cap = caller.policy.maxTokens ?? null;
  if (cap === null) return request;
  const prompts = promptsOf(body);
  if (prompts > MOST_CHOICES) throw invalid('prompt', `must have at most ${MOST_CHOICES} items with this API key`);
  checkIntegers(body, LENGTHS, cap);
  checkIntegers(body, ANSWERS, Math.floor(MOST_CHOICES / prompts));
  const other = body.max_completion_tokens ?? null;
  // Completions have no other name of a length, and some chats refuse two names.
  if ((body.max_tokens ?? null) !== null || (path === '/chat/completions' && other !== null)) return request;
  return { ...request, body: { ...body, max_tokens: other ?? cap } };
}

/** @throws ApiError invalid_value */
function checkIntegers(body: OpenBody, fields: readonly string[], most: number): void {
  for (const field of fields) {
    const value = body[field] ?? null;
    const least = field.startsWith('min_') ? 0 : 1;
    if (value === null || (Number.isInteger(value) && Number(value) >= least && Number(value) <= most)) continue;
    throw invalid(field, `must be an integer from ${least} to ${most} with this API key`);
  }
}

/** Tokens of a text, as long as no tokenizer of the model is at hand. */
export const estimatedTokens = (characters: number): number => Math.ceil(characters / TOKEN_CHARACTERS);

/** Characters of the prompt. The base64 of an image is no text. */
function promptCharacters(value: unknown): number {
  if (typeof value === 'string') return value.startsWith('data:') ? 0 : value.length;
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + promptCharacters(item), 0);
  if (typeof value === 'object' && value !== null) return promptCharacters(Object.values(value));
  return typeof value === 'number' ? TOKEN_CHARACTERS : 0;
}

export function promptTokens({ messages, prompt, tools }: OpenBody): number {
  return estimatedTokens(promptCharacters([messages, prompt, tools]));
}

/**
 * Takes the tokens of the request from the allowance of its key. They are estimates until the upstream counts them.
 * @returns gives the unused ones back
 * @throws ApiError rate_limit_exceeded
 */
export function reserved({ request }: UpstreamCall): (used: number) => void {
  const { body, caller } = request;
  const answers = answersOf(body, ANSWERS);
  const lengths = LENGTHS.map((field) => body[field]).filter((value) => typeof value === 'number');
  const length = Math.min(UNSTATED_TOKENS * 4, Math.max(0, ...lengths)) || UNSTATED_TOKENS;
  return caller.reserve({ tokens: promptTokens(body) + answers * length, maxTokensParam: 'max_tokens', answers });
}
