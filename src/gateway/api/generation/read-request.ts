/**
 * The way from a valid body to the engine's request, for all endpoints that generate. Each field is read here, once.
 *
 * Must not know: forms of an answer.
 */
import { randomBytes } from 'node:crypto';
import type { EngineRequest, Budget, AnswerKind, ThoughtTokens } from '../../../protocol/index.js';
import {
  MOST_CHOICES,
  policyOf,
  prefixSpace,
  readyEngine,
  type ApiContext,
  type ApiRequest,
  type Limits,
  type Quota,
} from '../context.js';
import { ApiError, invalid } from '../errors.js';
import type { SequenceEvents } from '../../engine-client/sequence-events.js';
import { requestBudget } from '../params/budget.js';
import { requestDepth } from '../params/depth.js';
import { sampling, samplingDefaults, seedOf } from '../params/sampling.js';
import { longestScored, type Scored, scoresOf } from '../params/score-limit.js';
import type { PlannedGrammar } from '../params/structured-outputs.js';
import { behindThoughts } from '../params/thoughts.js';
import { checkIds, LONE_SURROGATE } from '../params/value-limits.js';
import type { GenerationBody } from '../schemas/shared.js';
import type { AnswerThoughts } from './choice.js';
import { tooLong, type Prompt } from './prompt.js';

/** Answer tokens that an allowance must hold for a request that states no length. */
const UNSTATED_TOKENS = 256;

/**
 * A request that has passed all checks: the engine's part, and the rest, which turns tokens into the client's answer.
 */
export interface GenerationRequest {
  /** Unique on this server. The ids of its sequences begin with it. */
  readonly id: string;
  readonly engine: EngineRequest;
  readonly modelName: string;
  readonly prompts: readonly Prompt[];
  /** Answers per prompt. */
  readonly n: number;
  readonly quota: Quota;
  /** Scores that the request holds in the gateway (score-limit.ts); 0 without log-probabilities. */
  readonly scores: number;
  readonly stops: readonly string[];
  /** Whether the answers begin with their prompt. */
  readonly echo: boolean;
  /** The grammar of the answers with its parameter, for errors; null for any text. */
  readonly grammar: PlannedGrammar | null;
  /** How the answers think; null if they do not. */
  readonly thoughts: AnswerThoughts | null;
  /** Whether the report states the sampling. */
  readonly showsSampling: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
  /** Events of its sequences, if the engine has them already. */
  readonly begun?: SequenceEvents;
}

/** The budget of a request, stated or from the policy. @throws ApiError invalid_value */
export function budgetOf(
  { limits }: { readonly limits: Pick<Limits, 'policy'> },
  request: ApiRequest<Pick<GenerationBody, 'sortie'>>,
): Budget | null {
  const { headers, body, caller, waitedMs } = request;
  return requestBudget(headers, body.sortie, policyOf(limits.policy, caller.policy), waitedMs);
}

/** @throws ApiError invalid_value for a string with half a character, which would cut a character of the answer */
function stopStrings({ stop = [] }: GenerationBody): readonly string[] {
  const stops = typeof stop === 'string' ? [stop] : stop;
  if (stops.every((each) => !LONE_SURROGATE.test(each))) return stops;
  throw invalid('stop', 'must hold whole characters, got a lone UTF-16 surrogate');
}

/** The part of a request that an endpoint reads itself. */
export interface EndpointPart {
  /** Of the answers, where no grammar decides it. */
  readonly kind: 'chat' | 'code' | 'completion';
  readonly budget: Budget | null;
  readonly prompts: readonly Prompt[];
  /** The field that holds the prompt, for errors. */
  readonly promptParam: string;
  /** Null: `defaultTokens`. */
  readonly maxTokens: number | null;
  /** Null: as many as the model's defaults say, else to the end of the context. */
  readonly defaultTokens: number | null;
  readonly logprobs: number | null;
  readonly echo: boolean;
  /** Of the answers behind their thoughts. */
  readonly grammar: PlannedGrammar | null;
  /** Absent: the answers are text from the start. */
  readonly thoughts?: AnswerThoughts | null;
  /** The tags and the bound of thoughts; absent or null if the tags are no tokens. */
  readonly tagTokens?: Omit<ThoughtTokens, 'isOpen'> | null;
  readonly prediction: readonly number[] | null;
}

/** A grammar predicts more of the length of an answer than its endpoint does. */
function kindOf({ kind, grammar }: EndpointPart): AnswerKind {
  if (grammar === null) return kind;
  return grammar.grammar.kind === 'calls' ? 'tools' : 'schema';
}

/** Whether the engine scores the tokens of an echoed prompt. An answer without tokens is asked for these scores. */
function promptLogprobs({ echo, logprobs, maxTokens }: EndpointPart): number | null {
  if (!echo) return null;
  return logprobs ?? (maxTokens === 0 ? 0 : null);
}

/** @throws ApiError invalid_value for more answers than one request may have */
function scoredOf(part: EndpointPart, n: number): Scored {
  const { prompts, logprobs } = part;
  if (n * prompts.length > MOST_CHOICES) {
    const rule = `n times the number of prompts must be at most ${MOST_CHOICES}, got ${n * prompts.length}.`;
    throw new ApiError('invalid_value', rule, prompts.length > 1 ? part.promptParam : 'n');
  }
  const isEchoed = promptLogprobs(part) !== null;
  return { n, logprobs, promptTokens: prompts.map(({ ids }) => (isEchoed ? ids.length : 0)) };
}

/** Most tokens of an answer to each prompt. @throws ApiError context_length_exceeded or invalid_value */
function longestAnswers(
  context: ApiContext,
  { prompts, promptParam, maxTokens, defaultTokens }: EndpointPart,
  { min_tokens: least = 0 }: GenerationBody,
  scored: Scored,
): number[] {
  const { maxLength } = readyEngine(context);
  const usual = defaultTokens ?? samplingDefaults(context.model.generation).maxTokens ?? Infinity;
  const longest = prompts.map(({ ids }) => {
    const room = maxLength - ids.length;
    const asked = maxTokens ?? Math.min(usual, room, longestScored(scored));
    if (asked > room || room < (maxTokens === 0 ? 0 : 1)) throw tooLong(maxLength, ids.length, maxTokens, promptParam);
    return asked;
  });
  if (longest.every((most) => least <= most)) return longest;
  throw invalid('min_tokens', `must be at most max_tokens (${Math.min(...longest)}), got ${least}`);
}

/** The token counts that a stream sends. @throws ApiError invalid_value for options of a stream without a stream */
function streamedUsage({ stream, stream_options: asked }: GenerationBody) {
  if (asked !== undefined && stream !== true) throw invalid('stream_options', 'is only allowed with stream: true');
  const includeUsage = asked?.include_usage === true;
  // As in vLLM, continuous_usage_stats adds to include_usage and has no effect alone.
  return { includeUsage, continuousUsage: includeUsage && asked.continuous_usage_stats === true };
}

/**
 * Prompt and answer of every choice. An answer without a stated length counts with at most a usual length: to the end
 * of the context it would exceed most allowances. The tokens beyond it are charged at the end, as a debt.
 */
function quotaOf({ prompts, maxTokens }: EndpointPart, longest: readonly number[], n: number): Quota {
  const most = maxTokens === null ? UNSTATED_TOKENS : Infinity;
  const read = prompts.reduce((sum, { ids }) => sum + ids.length, 0);
  const written = longest.reduce((sum, each) => sum + Math.min(most, each), 0);
  return { tokens: read + n * written, maxTokensParam: 'max_tokens', answers: n * prompts.length };
}

/** The grammar of the answers, thoughts included. */
function grammarOf({ grammar, budget, thoughts = null, tagTokens = null }: EndpointPart): PlannedGrammar | null {
  if (tagTokens === null || thoughts === null) return grammar;
  const lands = budget?.totalMs != null && (budget.onMiss === 'land' || budget.onMiss === 'reject');
  return behindThoughts(grammar, { ...tagTokens, isOpen: thoughts.isOpen }, lands);
}

/** The sequences of the choices, each with a seed of its own. */
function sequences(id: string, n: number, longest: readonly number[], seed: number | null): EngineRequest['sequences'] {
  return longest.flatMap((maxTokens, prompt) =>
    Array.from({ length: n }, (_, choice) => ({
      id: `${id}-${prompt * n + choice}`,
      prompt,
      maxTokens,
      seed: seed === null ? null : seedOf(seed, choice),
    })),
  );
}

/** @throws ApiError invalid_value for an id outside of the vocabulary */
function stopTokens(
  { model }: ApiContext,
  { stop_token_ids: ids = [], ignore_eos: ignores }: GenerationBody,
): number[] {
  checkIds('stop_token_ids', ids, model.tokenizer.vocabulary);
  return [...(ignores === true ? [] : model.eosTokens), ...ids];
}

/** @throws ApiError for a request outside the limits, the model's abilities or the budget contract */
export function readRequest(
  context: ApiContext,
  request: ApiRequest<GenerationBody>,
  part: EndpointPart,
): GenerationRequest {
  const { body, caller, headers } = request;
  const { limits, model } = context;
  const { prompts, logprobs } = part;
  const { n = 1, sortie } = body;
  const bounds = requestDepth(model, body.model, headers, sortie, policyOf(limits.policy, caller.policy));
  const scored = scoredOf(part, n);
  const longest = longestAnswers(context, part, body, scored);
  const scores = scoresOf(scored, longest);
  const quota = quotaOf(part, longest, n);
  const grammar = grammarOf(part);
  const space = prefixSpace(limits.prefixReuse, caller, body.cache_salt);
  const id = randomBytes(12).toString('hex');
  return {
    id,
    engine: {
      arrivedAt: request.arrivedAt,
      prompts: prompts.map(({ ids }) => ids),
      sequences: sequences(id, n, longest, body.seed ?? null),
      minTokens: body.min_tokens ?? 0,
      stopTokens: stopTokens(context, body),
      sampling: sampling(context, body, quota.answers),
      logprobs,
      promptLogprobs: promptLogprobs(part),
      depth: { ...bounds, budget: part.budget },
      kind: kindOf(part),
      tenant: caller.tenant,
      ...(space !== null && { prefixSpace: space }),
      grammar: grammar?.grammar ?? null,
      prediction: part.prediction,
      speculate: sortie?.speculate ?? null,
      isDryRun: sortie?.dry_run === true,
    },
    modelName: body.model ?? model.name,
    prompts,
    n,
    quota,
    scores: logprobs === null && promptLogprobs(part) === null ? 0 : scores,
    stops: stopStrings(body),
    echo: part.echo,
    grammar,
    thoughts: part.thoughts ?? null,
    showsSampling: sortie?.show_sampling === true,
    ...streamedUsage(body),
  };
}
