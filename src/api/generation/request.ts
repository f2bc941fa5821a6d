/**
 * The steps from a valid body to the engine that completions and chat share: checks, lengths, depth, budget.
 *
 * Must not know: response forms.
 */
import type { Budget, LengthGroup, Sampling, ThoughtTokens } from '../../protocol/index.js';
import { StopList } from '../../text/stop-strings.js';
import {
  learningKey,
  policyOf,
  prefixSpace,
  readyEngine,
  type ApiContext,
  type ApiRequest,
  type Caller,
} from '../context.js';
import { ApiError, invalid } from '../errors.js';
import { requestBudget } from '../params/budget.js';
import { qualityFloor, requestDepth, type DepthBounds } from '../params/depth.js';
import { agreed, type Headers, headerValues } from '../params/headers.js';
import { sampling, samplingDefaults } from '../params/sampling.js';
import type { PlannedGrammar } from '../params/structured-outputs.js';
import { behindThoughts, thoughtsExit } from '../params/thoughts.js';
import { checkIds, LONE_SURROGATE } from '../params/value-limits.js';
import { ASKED } from '../schemas/headers.js';
import type { GenerationBody } from '../schemas/shared.js';
import type { AnswerThoughts } from './choice.js';
import { tooLong, type Prompt } from './prompt.js';

/** Answer tokens that an allowance must hold for a request that states no length. */
const UNSTATED_TOKENS = 256;

/** The whole request to the engine, equal for all choices except the prompt. */
export interface GenerationPlan {
  readonly modelName: string;
  readonly prompts: readonly Prompt[];
  /** Answers per prompt. */
  readonly n: number;
  readonly maxTokens: readonly number[];
  /** Tokens that a key's allowance must hold at admission. */
  readonly reserved: number;
  /** The client's name of the parameter that bounds an answer. */
  readonly maxTokensParam: string;
  readonly minTokens: number;
  readonly stops: StopList;
  readonly stopTokens: readonly number[];
  readonly sampling: Sampling;
  /** Whether the report states the sampling. */
  readonly showsSampling: boolean;
  readonly logprobs: number | null;
  readonly echo: boolean;
  readonly depth: DepthBounds & {
    /** Estimated quality of each exit. */
    readonly quality: readonly number[];
  };
  readonly budget: Budget | null;
  readonly lengthGroup: LengthGroup;
  /** The client in whose name the engine shares slots and time. */
  readonly tenant: string;
  /** The space in which the prompts may share prefixes; null for the common one. */
  readonly prefixSpace: string | null;
  /** The grammar of the answers; null for any text. */
  readonly grammar: PlannedGrammar | null;
  /** How the answers think; null if they do not. */
  readonly thoughts: AnswerThoughts | null;
  /** Tokens that the answers are expected to hold, or null. */
  readonly prediction: readonly number[] | null;
  /** Null follows the engine's option. */
  readonly speculate: boolean | null;
  /** The engine plans the request and generates nothing. */
  readonly isDryRun: boolean;
  /** Whether the report has an audit. */
  readonly audit: boolean;
  readonly includeUsage: boolean;
  readonly continuousUsage: boolean;
}

/** The budget of a request, stated or from the policy. @throws ApiError invalid_value */
export function budgetOf({ limits }: ApiContext, request: ApiRequest<GenerationBody>): Budget | null {
  const { headers, body, caller, waitedMs } = request;
  return requestBudget(headers, body.sortie, policyOf(limits.policy, caller.policy), waitedMs);
}

/** @throws ApiError invalid_value for a string with half a character, which would cut a character of the answer */
function stopList({ stop = [] }: GenerationBody): StopList {
  const stops = typeof stop === 'string' ? [stop] : stop;
  if (stops.every((each) => !LONE_SURROGATE.test(each))) return new StopList(stops);
  throw invalid('stop', 'must hold whole characters, got a lone UTF-16 surrogate');
}

export interface PlanInput {
  readonly endpoint: 'chat' | 'completion';
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
  readonly tagTokens?: Omit<ThoughtTokens, 'isOpen' | 'exit'> | null;
  readonly prediction: readonly number[] | null;
}

/** The group by which answer lengths are learned. A grammar predicts more than the endpoint does. */
function lengthGroup(caller: Caller, { endpoint, grammar }: PlanInput): LengthGroup {
  const kind = grammar === null ? endpoint : grammar.grammar.kind === 'calls' ? 'tools' : 'schema';
  return { kind, key: learningKey(caller) };
}

/** Most tokens of an answer to each prompt. @throws ApiError context_length_exceeded */
function longestAnswers(
  { prompts, promptParam, maxTokens, defaultTokens }: PlanInput,
  maxLength: number,
  usual: number,
): number[] {
  return prompts.map(({ ids }) => {
    const room = maxLength - ids.length;
    const asked = maxTokens ?? Math.min(defaultTokens ?? usual, room);
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
 * Prompt and answer of every choice. An answer without a stated length counts with at most a usual length: to the end of
 * the context it would exceed most allowances. The tokens beyond it are charged at the end, as a debt.
 */
function reservedTokens({ prompts, maxTokens: stated }: PlanInput, maxTokens: readonly number[], n: number): number {
  const most = stated === null ? UNSTATED_TOKENS : Infinity;
  return prompts.reduce((sum, { ids }, index) => sum + ids.length + n * Math.min(most, maxTokens[index] ?? 0), 0);
}

/** The grammar of the answers, thoughts included. @throws ApiError invalid_value for an exit that thoughts can't have */
function grammarOf(
  { model, limits }: ApiContext,
  { body }: ApiRequest<GenerationBody>,
  { grammar, budget, thoughts = null, tagTokens = null }: PlanInput,
  depth: DepthBounds,
): PlannedGrammar | null {
  if (tagTokens === null) return grammar;
  const exits = model.exits.map(({ layer }) => layer);
  const exit = thoughtsExit(body.sortie?.thinking_exit_layer, limits.thinkingExit, depth, exits);
  if (thoughts === null) return grammar;
  const lands = budget?.totalMs != null && (budget.onMiss === 'land' || budget.onMiss === 'reject');
  return behindThoughts(grammar, { ...tagTokens, isOpen: thoughts.isOpen, ...(exit !== null && { exit }) }, lands);
}

/** Whether the header asks for an audit. @throws ApiError invalid_value for another value, or for different ones */
function asksAudit(headers: Headers): boolean {
  const values = headerValues(headers, ASKED.audit, '1, true, 0 or false', (text) => {
    if (['1', 'true'].includes(text)) return true;
    return ['0', 'false'].includes(text) ? false : undefined;
  });
  return agreed(ASKED.audit, values) ?? false;
}

/** @throws ApiError for a request outside the limits, the model's abilities or the budget contract */
export function planGeneration(
  context: ApiContext,
  request: ApiRequest<GenerationBody>,
  input: PlanInput,
): GenerationPlan {
  const { body, headers } = request;
  const { model, limits } = context;
  const { vocabulary } = model.tokenizer;
  const { maxLength } = readyEngine(context);
  const policy = policyOf(limits.policy, request.caller.policy);
  const { prompts, logprobs, echo, budget, prediction } = input;
  const defaultExit = budget === null ? limits.defaultExit : null;
  const group = lengthGroup(request.caller, input);
  const quality = context.quality.of(group);
  const floor = qualityFloor(headers, body.sortie, policy.minQuality ?? null);
  const depth = requestDepth(model, body.model, headers, body.sortie, { ...policy, defaultExit, floor, quality });
  const { n = 1, min_tokens: minTokens = 0, stop_token_ids: stopIds = [] } = body;
  const choices = n * prompts.length;
  if (choices > limits.maxChoices) {
    const rule = `n times the number of prompts must be at most ${limits.maxChoices}, got ${choices}.`;
    throw new ApiError('invalid_value', rule, prompts.length > 1 ? input.promptParam : 'n');
  }
  const usage = streamedUsage(body);
  const defaults = samplingDefaults(model.generation, limits.samplingDefaults);
  const maxTokens = longestAnswers(input, maxLength, defaults.maxTokens ?? Infinity);
  if (maxTokens.some((most) => minTokens > most)) {
    throw invalid('min_tokens', `must be at most max_tokens (${Math.min(...maxTokens)}), got ${minTokens}`);
  }
  checkIds('stop_token_ids', stopIds, vocabulary);
  return {
    ...{ prompts, n, maxTokens, minTokens, logprobs, echo, budget, prediction, ...usage },
    modelName: body.model ?? model.name,
    reserved: reservedTokens(input, maxTokens, n),
    maxTokensParam: 'max_tokens',
    stops: stopList(body),
    stopTokens: [...(body.ignore_eos === true ? [] : model.eosTokens), ...stopIds],
    sampling: sampling(body, { vocabulary, choices, defaults }),
    showsSampling: body.sortie?.show_sampling === true,
    depth: { ...depth, quality },
    lengthGroup: group,
    tenant: request.caller.tenant,
    prefixSpace: prefixSpace(limits.prefixReuse, request.caller, body.cache_salt),
    grammar: grammarOf(context, request, input, depth),
    thoughts: input.thoughts ?? null,
    speculate: body.sortie?.speculate ?? null,
    isDryRun: body.sortie?.dry_run === true,
    audit: body.sortie?.audit ?? asksAudit(headers),
  };
}
