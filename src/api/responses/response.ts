/** The response object, which a whole answer is and which the first and last events of a stream hold. */
import type { Answer } from '../generation/answer.js';
import type { ApiError } from '../errors.js';
import type { OutputItem, ResponsesAnswer, ResponsesBody, ResponsesUsage } from '../schemas/responses.js';

function usageOf(answer: Answer): ResponsesUsage {
  const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details, completion_tokens_details } =
    answer.usage();
  return {
    input_tokens: prompt_tokens,
    input_tokens_details: prompt_tokens_details,
    output_tokens: completion_tokens,
    output_tokens_details: { reasoning_tokens: completion_tokens_details.reasoning_tokens },
    total_tokens,
  };
}

/** The fields that the request decides. */
function asked(body: ResponsesBody, { plan: { sampling } }: Answer) {
  return {
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    max_tool_calls: body.max_tool_calls ?? null,
    metadata: body.metadata ?? {},
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: null,
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: body.reasoning === undefined ? null : { effort: body.reasoning.effort ?? null, summary: null },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: 'default',
    store: false,
    background: false,
    text: { format: body.text?.format ?? { type: 'text' }, verbosity: 'medium' },
    tools: (body.tools ?? []).map(({ type, name, description = null, parameters = null, strict = null }) => ({
      ...{ type, name, description, parameters, strict },
    })),
    tool_choice: body.tool_choice ?? 'auto',
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_logprobs: body.top_logprobs ?? 0,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    truncation: 'disabled',
    user: body.user ?? null,
  } as const;
}

interface State {
  readonly status: ResponsesAnswer['status'];
  readonly output: OutputItem[];
  readonly error?: ApiError;
}

/** The id of a response begins with it. */
export const ID_PREFIX = 'resp_';

/** The response in this state. Only an ended one has usage. */
export function responseOf(body: ResponsesBody, answer: Answer, { status, output, error }: State): ResponsesAnswer {
  const isEnded = status !== 'in_progress';
  return {
    id: ID_PREFIX + answer.id,
    object: 'response',
    created_at: answer.created,
    completed_at: status === 'completed' ? Math.floor(Date.now() / 1000) : null,
    status,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    error: error === undefined ? null : { code: error.code, message: error.message },
    model: answer.plan.modelName,
    output,
    usage: isEnded ? usageOf(answer) : null,
    ...asked(body, answer),
  };
}
