/** POST /v1/responses: a chat in the form of OpenAI's responses, whole or as named events. The server keeps none. */
import type { ApiContext, ApiRequest, EventStream } from '../../context.js';
import { saidOf } from '../../generation/joined-fields.js';
import { type ApiError, notSupported } from '../../errors.js';
import { chatLogprobs } from '../../generation/logprobs.js';
import type { GenerationRequest } from '../../generation/read-request.js';
import type { Form, FormAnswer } from '../../generation/serve.js';
import { SortieReport } from '../../schemas/report.js';
import { NullableNumber, NullableString } from '../../schemas/shared.js';
import { nullable, type Static, Type, words } from '../../../../util/schema.js';
import { readAsChat } from '../chat-completions/translated-chat.js';
import type { GeneratingEndpoint } from '../endpoint.js';
import { type Emit, Output, OutputItem, Status } from './output-items.js';
import { ResponsesBody } from './responses-body.js';
import { checkSupported, isThoughtless, translate, withoutIgnored } from './translate-responses.js';

const ResponsesUsage = Type.Object({
  input_tokens: Type.Integer(),
  input_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  output_tokens: Type.Integer(),
  output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
  total_tokens: Type.Integer(),
});
type ResponsesUsage = Static<typeof ResponsesUsage>;

/** A response. Fields of the request come back as they were sent, sampling fields as they were used. */
const ResponsesAnswer = Type.Object({
  id: Type.String(),
  object: Type.Literal('response'),
  created_at: Type.Integer(),
  completed_at: NullableNumber,
  status: Type.Union([...Status.anyOf, Type.Literal('failed')]),
  incomplete_details: nullable(Type.Object({ reason: words(['max_output_tokens', 'content_filter']) })),
  error: nullable(Type.Object({ code: Type.String(), message: Type.String() })),
  model: Type.String(),
  output: Type.Array(OutputItem),
  usage: nullable(ResponsesUsage),
  instructions: NullableString,
  max_output_tokens: NullableNumber,
  max_tool_calls: NullableNumber,
  metadata: Type.Record(Type.String(), Type.String()),
  parallel_tool_calls: Type.Boolean(),
  previous_response_id: Type.Null(),
  prompt_cache_key: NullableString,
  reasoning: nullable(Type.Object({ effort: NullableString, summary: Type.Null() })),
  safety_identifier: NullableString,
  service_tier: Type.Literal('default'),
  store: Type.Literal(false),
  background: Type.Literal(false),
  text: Type.Object({ format: Type.Unknown(), verbosity: Type.Literal('medium') }),
  tools: Type.Array(Type.Unknown()),
  tool_choice: Type.Unknown(),
  temperature: Type.Number(),
  top_p: Type.Number(),
  top_logprobs: Type.Integer(),
  presence_penalty: Type.Number(),
  frequency_penalty: Type.Number(),
  truncation: Type.Literal('disabled'),
  user: NullableString,
  sortie: Type.Optional(SortieReport),
});
type ResponsesAnswer = Static<typeof ResponsesAnswer>;

/** A sentence for each setting of the request that has no effect. */
function ignoredSettings(context: ApiContext, body: ResponsesBody): string[] {
  const { text: { verbosity = 'medium' } = {}, truncation } = body;
  return [
    isThoughtless(context, body) ? 'reasoning.effort is ignored: this model has no thoughts.' : [],
    verbosity === 'medium' ? [] : 'text.verbosity is ignored: this model has no such setting.',
    truncation === 'auto' ? 'truncation is ignored: input beyond the context is rejected.' : [],
  ].flat();
}

/** Events of a stream that hold each log-probability: its delta, and the ends of text, part, item and response. */
const COPIES = 5;

async function read(context: ApiContext, request: ApiRequest<ResponsesBody>): Promise<GenerationRequest> {
  const { body } = request;
  checkSupported(body);
  const copies = body.stream === true ? COPIES : 1;
  const read = await readAsChat(context, request, translate(withoutIgnored(context, body)), copies);
  for (const each of ignoredSettings(context, body)) request.warn(each);
  return read;
}

function usageOf(answer: FormAnswer): ResponsesUsage {
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
function asked(body: ResponsesBody, { request: { engine } }: FormAnswer) {
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
      type,
      name,
      description,
      parameters,
      strict,
    })),
    tool_choice: body.tool_choice ?? 'auto',
    temperature: engine.sampling.temperature,
    top_p: engine.sampling.topP,
    top_logprobs: body.top_logprobs ?? 0,
    presence_penalty: engine.sampling.presencePenalty,
    frequency_penalty: engine.sampling.frequencyPenalty,
    truncation: 'disabled',
    user: body.user ?? null,
  } as const;
}

interface State {
  readonly status: ResponsesAnswer['status'];
  readonly output: OutputItem[];
  readonly error?: ApiError;
}

/** The response in this state. Only an ended one has usage. */
function responseOf(body: ResponsesBody, answer: FormAnswer, { status, output, error }: State): ResponsesAnswer {
  const isEnded = status !== 'in_progress';
  return {
    id: `resp_${answer.request.id}`,
    object: 'response',
    created_at: answer.created,
    completed_at: status === 'completed' ? Math.floor(Date.now() / 1000) : null,
    status,
    incomplete_details:
      status === 'incomplete'
        ? { reason: answer.choices[0]?.finishReason === 'content_filter' ? 'content_filter' : 'max_output_tokens' }
        : null,
    error: error === undefined ? null : { code: error.code, message: error.message },
    model: answer.request.modelName,
    output,
    usage: isEnded ? usageOf(answer) : null,
    ...asked(body, answer),
  };
}

function responseForm(
  { body: stated }: Pick<ApiRequest<ResponsesBody>, 'body'>,
  answer: FormAnswer,
  send?: EventStream['send'],
): Form {
  const body = withoutIgnored(answer, stated);
  const { tokenizer } = answer.model;
  const scores: ConstructorParameters<typeof Output>[2] = (tokens) =>
    tokenizer === null ? [] : chatLogprobs(tokenizer, tokens);
  let number = 0;
  const emit: Emit = (type, fields) => send?.({ type, sequence_number: number++, ...fields }, type);
  const isScored = answer.request.engine.logprobs !== null;
  const output = new Output(answer.request.id, emit, scores);
  let isBegun = false;
  let status: 'completed' | 'incomplete' = 'completed';
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    const response = responseOf(body, answer, { status: 'in_progress', output: [] });
    emit('response.created', { response });
    emit('response.in_progress', { response });
  };
  return {
    add(piece) {
      begin();
      if ('finishReason' in piece) {
        if (piece.finishReason === 'length' || piece.finishReason === 'content_filter') status = 'incomplete';
        output.end(status);
      } else if (piece.thoughts !== '') output.thoughts(piece.thoughts);
      else if (piece.call !== null) output.call(piece.call);
      else output.text(saidOf(piece), isScored ? piece.tokens : []);
    },
    end() {
      const response = responseOf(body, answer, { status, output: output.items });
      emit(`response.${status}`, { response: { ...response, sortie: answer.report() } });
      return response;
    },
    failed(error) {
      // OpenAI documents the first form, and its server and Open Responses have the second one; clients read either.
      const { code, message, param } = error;
      emit('error', { code, message, param, ...error.body() });
      const items = output.items.map((item): OutputItem =>
        item.status === 'in_progress' ? { ...item, status: 'incomplete' } : item,
      );
      emit('response.failed', { response: responseOf(body, answer, { status: 'failed', output: items, error }) });
    },
  };
}

export const responses: GeneratingEndpoint<ResponsesBody> = {
  path: '/v1/responses',
  operationId: 'createResponse',
  summary: 'Answer a conversation of items at the depth that the budget allows; no response is stored',
  tag: 'OpenAI',
  operation: 'chat',
  body: ResponsesBody,
  answer: ResponsesAnswer,
  events: 'from response.created to response.completed.',
  userOf: ({ user }) => user,
  read,
  form: responseForm,
  elsewhere: {
    translate(body) {
      checkSupported(body);
      const translation = translate(body);
      if (translation.body.logprobs !== true) return translation;
      throw notSupported('include', 'message.output_text.logprobs', 'an upstream model states them in chats only');
    },
    // OpenAI's errors have one form.
    errorBody: (_status, text) => text,
  },
  // OpenAI's streams end with their last event. Open Responses adds a [DONE], which its clients can do without.
  terminator: null,
};
