/**
 * The way from a valid body to the engine's request, for all endpoints that generate. Each field is read here, once.
 *
 * Must not know: forms of an answer.
 */
import { randomBytes } from 'node:crypto';
import type { EngineRequest, Budget, LengthGroup, ThoughtTokens } from '../../../protocol/index.js';
import {
  MOST_CHOICES,
  learningKey,
  policyOf,
  prefixSpace,
  readyEngine,
  type ApiContext,
  type ApiRequest,
  type Caller,
  type Limits,
  type Quota,
} from '../context.js';
import { ApiError, invalid } from '../errors.js';
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
  readonly kind: 'chat' | 'completion';
  readonly budget: Budget | null;
  readonly prompts: readonly Prompt[];
  /** The field that holds the prompt, for errors. */
  readonly promptParam: string;
  /** Null: `defaultTokens`. */
  readonly maxTokens: number | null;
  /** Null: as many as the model's defaults say, else to the end of the context. */
  readonly defaultTokens: number | null;
  readonly logprobs: number | null;
  /** Times that the answer repeats its log-probabilities; absent: once. */
  readonly copies?: number;
  readonly echo: boolean;
  /** Of the answers behind their thoughts. */
  readonly grammar: PlannedGrammar | null;
  /** Absent: the answers are text from the start. */
  readonly thoughts?: AnswerThoughts | null;
  /** The tags and the bound of thoughts; absent or null if the tags are no tokens. */
  readonly tagTokens?: Omit<ThoughtTokens, 'isOpen'> | null;
  readonly prediction: readonly number[] | null;
}

/** The group by which lengths are learned. A grammar predicts more than the text does. */
function lengthGroup(caller: Caller, { kind, grammar }: EndpointPart): LengthGroup {
  const ofGrammar = grammar?.grammar.kind === 'calls' ? 'tools' : 'schema';
  return { kind: grammar === null ? kind : ofGrammar, key: learningKey(caller) };
}

/** Most tokens of an answer to each prompt. @throws ApiError context_length_exceeded */
function longestAnswers(
  { prompts, promptParam, maxTokens, defaultTokens }: EndpointPart,
  maxLength: number,
  usual: number,
  scored: number,
): number[] {
  return prompts.map(({ ids }) => {
    const room = maxLength - ids.length;
    const asked = maxTokens ?? Math.min(defaultTokens ?? usual, room, scored);
    if (asked > room || room < (maxTokens === 0 ? 0 : 1)) throw tooLong(maxLength, ids.length, maxTokens, promptParam);
    return asked;
  });
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
function reservedTokens({ prompts, maxTokens: stated }: EndpointPart, maxTokens: readonly number[], n: number): number {
  const most = stated === null ? UNSTATED_TOKENS : Infinity;
  return prompts.reduce((sum, { ids }, index) => sum + ids.length + n * Math.min(most, maxTokens[index] ?? 0), 0);
}

/** The grammar of the answers, thoughts included. */
function grammarOf({ grammar, budget, thoughts = null, tagTokens = null }: EndpointPart): PlannedGrammar | null {
  if (tagTokens === null || thoughts === null) return grammar;
  const lands = budget?.totalMs != null && (budget.onMiss === 'land' || budget.onMiss === 'reject');
  return behindThoughts(grammar, { ...tagTokens, isOpen: thoughts.isOpen }, lands);
}

/** Whether the engine scores the tokens of an echoed prompt. An answer without tokens is asked for these scores. */
function promptLogprobs({ echo, logprobs, maxTokens }: EndpointPart): number | null {
  if (!echo) return null;
  return logprobs ?? (maxTokens === 0 ? 0 : null);
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

/** The depths that the request allows, and its budget. @throws ApiError as requestDepth */
function depthOf(context: ApiContext, request: ApiRequest<GenerationBody>, budget: Budget | null) {
  const { body, headers } = request;
  const { model, limits } = context;
  const policy = policyOf(limits.policy, request.caller.policy);
  return { ...requestDepth(model, body.model, headers, body.sortie, policy), budget };
}

function scoredOf(part: EndpointPart, n: number): Scored {
  const isEchoed = promptLogprobs(part) !== null;
  const promptTokens = part.prompts.map(({ ids }) => (isEchoed ? ids.length : 0));
  return { n, logprobs: part.logprobs, promptTokens, copies: part.copies ?? 1 };
}

/**
 * Answers per prompt, the most tokens of the answers to each prompt, and the scores of all.
 * @throws ApiError invalid_value or context_length_exceeded
 */
function lengths(context: ApiContext, { n = 1, min_tokens: least = 0 }: GenerationBody, part: EndpointPart) {
  const choices = n * part.prompts.length;
  if (choices > MOST_CHOICES) {
    const rule = `n times the number of prompts must be at most ${MOST_CHOICES}, got ${choices}.`;
    throw new ApiError('invalid_value', rule, part.prompts.length > 1 ? part.promptParam : 'n');
  }
  const usual = samplingDefaults(context.model.generation).maxTokens ?? Infinity;
  const scored = scoredOf(part, n);
  const longest = longestAnswers(part, readyEngine(context).maxLength, usual, longestScored(scored));
  if (longest.some((most) => least > most)) {
    throw invalid('min_tokens', `must be at most max_tokens (${Math.min(...longest)}), got ${least}`);
  }
  const scores = scoresOf(scored, longest);
  const isScored = scored.logprobs !== null || promptLogprobs(part) !== null;
  return { n, choices, longest, scores: isScored ? scores : 0 };
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
  const { body, caller } = request;
  const group = lengthGroup(caller, part);
  const depth = depthOf(context, request, part.budget);
  const { n, choices, longest, scores } = lengths(context, body, part);
  const grammar = grammarOf(part);
  const space = prefixSpace(context.limits.prefixReuse, caller, body.cache_salt);
  const id = randomBytes(12).toString('hex');
  return {
    id,
    engine: {
      arrivedAt: request.arrivedAt,
      prompts: part.prompts.map(({ ids }) => ids),
      sequences: sequences(id, n, longest, body.seed ?? null),
      minTokens: body.min_tokens ?? 0,
      stopTokens: stopTokens(context, body),
      sampling: sampling(context, body, choices),
      logprobs: part.logprobs,
      promptLogprobs: promptLogprobs(part),
      depth,
      lengthGroup: group,
      tenant: caller.tenant,
      ...(space !== null && { prefixSpace: space }),
      grammar: grammar?.grammar ?? null,
      prediction: part.prediction,
      speculate: body.sortie?.speculate ?? null,
      isDryRun: body.sortie?.dry_run === true,
    },
    modelName: body.model ?? context.model.name,
    prompts: part.prompts,
    n,
    quota: { tokens: reservedTokens(part, longest, n), maxTokensParam: 'max_tokens', answers: choices },
    scores,
    stops: stopStrings(body),
    echo: part.echo,
    grammar,
    thoughts: part.thoughts ?? null,
    showsSampling: body.sortie?.show_sampling === true,
    ...streamedUsage(body),
  };
}
