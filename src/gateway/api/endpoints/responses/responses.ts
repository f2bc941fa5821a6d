/** POST /v1/responses: a chat in the form of OpenAI's responses, whole or as named events. The server keeps none. */
import type { ApiRequest, EventStream } from '../../context.js';
import { type Item, Items } from '../../generation/items.js';
import { type ApiError, stated } from '../../errors.js';
import type { Form, FormAnswer } from '../../generation/serve.js';
import { requestedModel } from '../../params/depth.js';
import { SortieReport } from '../../schemas/report.js';
import { nullable, type Static, Type, words } from '../../../../util/schema.js';
import { countTranslated, readAsChat } from '../chat-completions/translated-chat.js';
import { type GeneratingEndpoint, plainEndpoint } from '../endpoint.js';
import { InputTokensBody, ResponsesBody, translate } from './responses-body.js';

const ResponsesUsage = Type.Object({
  input_tokens: Type.Integer(),
  input_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  output_tokens: Type.Integer(),
  output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
  total_tokens: Type.Integer(),
});

/** OpenAI's response. Fields of the request come back as they were sent, sampling fields as they were used. */
const ResponsesAnswer = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('response'),
    created_at: Type.Integer(),
    status: words(['completed', 'incomplete']),
    model: Type.String(),
    output: Type.Array(
      Type.Object({ type: words(['message', 'function_call', 'reasoning']) }, { additionalProperties: true }),
    ),
    usage: nullable(ResponsesUsage),
    sortie: SortieReport,
  },
  { additionalProperties: true },
);

type Status = 'in_progress' | 'completed' | 'incomplete';

/** The prefix of an item's id, and its part in which its text is; null: the item is a call. */
const KINDS = {
  text: { type: 'message', prefix: 'msg', part: 'output_text' },
  thoughts: { type: 'reasoning', prefix: 'rs', part: 'reasoning_text' },
  call: { type: 'function_call', prefix: 'fc', part: 'function_call_arguments' },
} as const;

/** Fields of parts and events of texts that no answer of this server fills. */
const UNSCORED = { logprobs: [] } as const;

const partOf = ({ kind, text }: Item) => ({
  type: KINDS[kind].part,
  text,
  ...(kind === 'text' && { annotations: [], ...UNSCORED }),
});

const idOf = (answerId: string, { kind, index }: Item): string =>
  `${KINDS[kind].prefix}_${answerId}${index === 0 ? '' : `_${index}`}`;

/** An item of the output. */
function itemOf(answerId: string, item: Item, status: Status, content = [partOf(item)]) {
  const { kind, id: call_id, name, text } = item;
  const head = { type: KINDS[kind].type, id: idOf(answerId, item), status };
  if (kind === 'call') return { ...head, call_id, name, arguments: text };
  return { ...head, ...(kind === 'text' ? { role: 'assistant' } : { summary: [] }), content };
}

/** Sends an event of this type, if the response is a stream. */
type Emit = (type: string, fields: object) => void;

/**
 * The output items of an answer. A stream has the events of each item. Only the last part of an item is whole in them:
 * a copy would grow with each token.
 */
function outputOf(answerId: string, emit: Emit, statusOf: () => Status): Items {
  const placeOf = (item: Item) => ({
    item_id: idOf(answerId, item),
    output_index: item.index,
    ...(item.kind !== 'call' && { content_index: 0 }),
  });
  return new Items({
    begins(item) {
      emit('output_item.added', { output_index: item.index, item: itemOf(answerId, item, 'in_progress', []) });
      if (item.kind !== 'call') emit('content_part.added', { ...placeOf(item), part: partOf(item) });
    },
    grows(item, delta) {
      emit(`${KINDS[item.kind].part}.delta`, { ...placeOf(item), delta, ...(item.kind === 'text' && UNSCORED) });
    },
    ends(item, isLast) {
      const { kind, name, text } = item;
      const place = placeOf(item);
      if (kind === 'call') emit('function_call_arguments.done', { ...place, name, arguments: text });
      else {
        emit(`${KINDS[kind].part}.done`, { ...place, text, ...(kind === 'text' && UNSCORED) });
        emit('content_part.done', { ...place, part: partOf(item) });
      }
      emit('output_item.done', {
        output_index: item.index,
        item: itemOf(answerId, item, isLast ? statusOf() : 'completed'),
      });
    },
  });
}

function usageOf(answer: FormAnswer): Static<typeof ResponsesUsage> {
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
    tools: (body.tools ?? []).map((tool) => ({ description: null, parameters: null, strict: null, ...tool })),
    tool_choice: body.tool_choice ?? 'auto',
    temperature: engine.sampling.temperature,
    top_p: engine.sampling.topP,
    top_logprobs: 0,
    presence_penalty: engine.sampling.presencePenalty,
    frequency_penalty: engine.sampling.frequencyPenalty,
    truncation: 'disabled',
    user: body.user ?? null,
  } as const;
}

/** Why an answer is incomplete; null: it is whole. */
function cutBy(answer: FormAnswer): 'content_filter' | 'max_output_tokens' | null {
  const reason = answer.choices[0]?.finishReason;
  return reason === 'content_filter' ? reason : reason === 'length' ? 'max_output_tokens' : null;
}

const statusOf = (answer: FormAnswer): Status => (cutBy(answer) === null ? 'completed' : 'incomplete');

/** The response in this state. Only an ended one has usage. */
function responseOf(
  body: ResponsesBody,
  answer: FormAnswer,
  status: Status | 'failed',
  output: readonly object[] = [],
  error: ApiError | null = null,
) {
  return {
    id: `resp_${answer.request.id}`,
    object: 'response',
    created_at: answer.created,
    completed_at: status === 'completed' ? Math.floor(Date.now() / 1000) : null,
    status,
    incomplete_details: status === 'incomplete' ? { reason: cutBy(answer) } : null,
    error: error && { code: error.code, message: error.message },
    model: answer.request.modelName,
    output,
    usage: status === 'in_progress' ? null : usageOf(answer),
    ...asked(body, answer),
  };
}

function responseForm(
  { body }: Pick<ApiRequest<ResponsesBody>, 'body'>,
  answer: FormAnswer,
  send?: EventStream['send'],
): Form {
  const { id } = answer.request;
  let number = 0;
  const emit: Emit = (name, fields) => {
    const type = name === 'error' ? name : `response.${name}`;
    send?.({ type, sequence_number: number++, ...fields }, type);
  };
  const output = outputOf(id, emit, () => statusOf(answer));
  const items = (last: Status) =>
    output.list.map((item, index) => itemOf(id, item, index === output.list.length - 1 ? last : 'completed'));
  let isBegun = false;
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begin = (): void => {
    isBegun = true;
    const response = responseOf(body, answer, 'in_progress');
    emit('created', { response });
    emit('in_progress', { response });
  };
  return {
    add(piece) {
      if (!isBegun) begin();
      if ('text' in piece) output.add(piece);
    },
    end() {
      // An answer without any item has an empty message.
      if (output.list.length === 0) output.begin('text');
      output.end();
      const status = statusOf(answer);
      const response = responseOf(body, answer, status, items(status));
      emit(status, { response: { ...response, sortie: answer.report() } });
      return response;
    },
    failed(error) {
      // OpenAI documents the first form, and its server and Open Responses have the second one; clients read either.
      const { code, message, param } = error;
      emit('error', { code, message, param, ...error.body() });
      emit('failed', {
        response: responseOf(body, answer, 'failed', items(output.open === null ? 'completed' : 'incomplete'), error),
      });
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
  read: (context, request) => readAsChat(context, request, translate(request.body)),
  form: responseForm,
  elsewhere: {
    translate: (body) => translate(body),
    // OpenAI's errors have one form.
    errorBody: (_status, text) => text,
  },
  // OpenAI's streams end with their last event. Open Responses adds a [DONE], which its clients can do without.
  terminator: null,
};

const InputTokensAnswer = Type.Object({
  object: Type.Literal('response.input_tokens'),
  input_tokens: Type.Integer(),
});

export const inputTokens = plainEndpoint<InputTokensBody>({
  path: '/v1/responses/input_tokens',
  operationId: 'countInputTokens',
  summary: 'Count the tokens of the prompt of a response',
  tag: 'OpenAI',
  body: InputTokensBody,
  answer: InputTokensAnswer,
  meaning: 'The tokens of the prompt.',
  isShared: true,
  async serve(context, { body, signal }): Promise<Static<typeof InputTokensAnswer>> {
    if (body.instructions === undefined) stated(body.input, 'input');
    requestedModel(context.model, body.model);
    const asked = { ...body, input: body.input ?? [] };
    return { object: 'response.input_tokens', input_tokens: await countTranslated(context, translate(asked), signal) };
  },
});
