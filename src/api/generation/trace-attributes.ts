/** Trace attributes of a generation, named by OpenTelemetry's GenAI conventions where they exist. They hold no text. */
import type { Attributes } from '../../telemetry/trace.js';
import type { Answer } from './answer.js';
import type { GenerationPlan } from './request.js';

/** Attributes of the request. */
export function askedAttributes({ modelName, sampling, maxTokens, n, depth, budget }: GenerationPlan): Attributes {
  const { temperature, topP, topK, frequencyPenalty, presencePenalty, seed } = sampling;
  return {
    'gen_ai.request.model': modelName,
    'gen_ai.request.max_tokens': Math.max(...maxTokens),
    'gen_ai.request.temperature': temperature,
    'gen_ai.request.top_p': topP,
    ...(topK > 0 ? { 'gen_ai.request.top_k': topK } : {}),
    ...(frequencyPenalty === 0 ? {} : { 'gen_ai.request.frequency_penalty': frequencyPenalty }),
    ...(presencePenalty === 0 ? {} : { 'gen_ai.request.presence_penalty': presencePenalty }),
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

/** Attributes of the answer. */
export function answeredAttributes(answer: Answer, finishReasons: string[]): Attributes {
  const { prompt_tokens, completion_tokens } = answer.usage();
  const { plan, met } = answer.report();
  return {
    'gen_ai.response.id': answer.id,
    'gen_ai.response.finish_reasons': finishReasons,
    'gen_ai.usage.input_tokens': prompt_tokens,
    'gen_ai.usage.output_tokens': completion_tokens,
    'sortie.plan.exit_layer': plan.exit_layer,
    ...(met === null ? {} : { 'sortie.budget_met': met }),
  };
}
