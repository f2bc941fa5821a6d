/** Trace attributes of a generation, named by OpenTelemetry's GenAI conventions where they exist. They hold no text. */
import type { Attributes } from '../../telemetry/trace.js';
import type { Answer } from './answer.js';
import type { GenerationPlan } from './request.js';

/** A request may state thousands of stop strings. Its span names the first ones. */
const MAX_STOPS = 16;

/** Attributes of the request. */
export function askedAttributes(plan: GenerationPlan, isStream: boolean): Attributes {
  const { modelName, sampling, maxTokens, n, grammar, depth, budget } = plan;
  const { stops } = plan.stops;
  const { temperature, topP, topK, frequencyPenalty, presencePenalty, seed } = sampling;
  return {
    'gen_ai.request.model': modelName,
    'gen_ai.request.stream': isStream,
    'gen_ai.output.type': grammar?.grammar.kind === 'json' ? 'json' : 'text',
    'gen_ai.request.max_tokens': Math.max(...maxTokens),
    'gen_ai.request.temperature': temperature,
    'gen_ai.request.top_p': topP,
    ...(topK > 0 ? { 'gen_ai.request.top_k': topK } : {}),
    ...(frequencyPenalty === 0 ? {} : { 'gen_ai.request.frequency_penalty': frequencyPenalty }),
    ...(presencePenalty === 0 ? {} : { 'gen_ai.request.presence_penalty': presencePenalty }),
    ...(stops.length === 0 ? {} : { 'gen_ai.request.stop_sequences': stops.slice(0, MAX_STOPS) }),
    ...(seed === null ? {} : { 'gen_ai.request.seed': seed }),
    ...(n === 1 ? {} : { 'gen_ai.request.choice.count': n }),
    'sortie.min_exit_layer': depth.minExit,
    'sortie.max_exit_layer': depth.maxExit,
    ...(budget?.totalMs == null ? {} : { 'sortie.budget_ms': budget.totalMs }),
    ...(budget?.ttftMs == null ? {} : { 'sortie.slo_ttft_ms': budget.ttftMs }),
    ...(budget?.tpotMs == null ? {} : { 'sortie.slo_tpot_ms': budget.tpotMs }),
    ...(budget === null ? {} : { 'sortie.budget_on_miss': budget.onMiss }),
  };
}

/**
 * Attributes of the answer.
 * @param id the id that the client gets
 */
export function answeredAttributes(answer: Answer, id: string): Attributes {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = answer.usage();
  const { plan, landed, met, ttft_ms } = answer.report();
  return {
    'gen_ai.response.id': id,
    'gen_ai.response.finish_reasons': answer.choices.flatMap(({ finishReason }) => finishReason ?? []),
    'gen_ai.usage.input_tokens': prompt_tokens,
    'gen_ai.usage.output_tokens': completion_tokens,
    'gen_ai.usage.cache_read.input_tokens': prompt_tokens_details.cached_tokens,
    ...(ttft_ms === null ? {} : { 'gen_ai.response.time_to_first_chunk': ttft_ms / 1000 }),
    'sortie.plan.exit_layer': plan.exit_layer,
    ...(plan.reason === null ? {} : { 'sortie.plan.reason': plan.reason }),
    ...(landed === null ? {} : { 'sortie.landed.at_token': landed.at_token }),
    ...(met === null ? {} : { 'sortie.budget_met': met }),
  };
}
