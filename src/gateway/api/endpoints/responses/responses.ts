/** POST /v1/responses: a chat in the form of OpenAI's responses, whole or as named events. The server keeps none. */
import type { CallPart } from '../../generation/call-reader.js';
import type { ApiRequest, EventStream } from '../../context.js';
import { saidOf } from '../../generation/joined-fields.js';
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

type ItemStatus = 'in_progress' | 'completed' | 'incomplete';
interface Head<T> {
  readonly type: T;
  readonly id: string;
  status: ItemStatus;
}
/** The one part of an item that has parts. */
type Part<T> = [{ readonly type: T; text: string; readonly annotations?: []; readonly logprobs?: [] }];
/** The thoughts in front of a message or a call are a reasoning item. */
type OutputItem =
  | (Head<'message'> & { readonly role: 'assistant'; readonly content: Part<'output_text'> })
  | (Head<'function_call'> & { readonly call_id: string; readonly name: string; arguments: string })
  | (Head<'reasoning'> & { readonly summary: []; readonly content: Part<'reasoning_text'> });
type Item<T extends OutputItem['type']> = Extract<OutputItem, { type: T }>;

/** Sends an event of this type, if the response is a stream. */
type Emit = (type: string, fields: object) => void;

/**
 * The output items of an answer: its thoughts, then a message, or one item for each call. A stream has the events of
 * each item. Only the last part of an item is whole in them: a copy would grow with each token.
 */
class Output {
  readonly items: OutputItem[] = [];
  #isOpen = false;

  constructor(
    private readonly answerId: string,
    private readonly emit: Emit,
  ) {}

  /** Adds a text, which may be empty, to the message that grows or to a new one. */
  text(delta: string): void {
    const content: Item<'message'>['content'] = [{ type: 'output_text', text: '', annotations: [], logprobs: [] }];
    const item =
      this.#growing('message') ?? this.#open({ ...this.#head('message', 'msg'), role: 'assistant', content });
    item.content[0].text += delta;
    if (delta !== '') this.emit('response.output_text.delta', { ...this.#place(item), delta, logprobs: [] });
  }

  /** Adds thoughts, which are not empty. */
  thoughts(delta: string): void {
    const content: Item<'reasoning'>['content'] = [{ type: 'reasoning_text', text: '' }];
    const item = this.#growing('reasoning') ?? this.#open({ ...this.#head('reasoning', 'rs'), summary: [], content });
    item.content[0].text += delta;
    this.emit('response.reasoning_text.delta', { ...this.#place(item), delta });
  }

  call({ id, name, arguments: delta }: CallPart): void {
    if (id !== undefined && name !== undefined)
      this.#open({ ...this.#head('function_call', 'fc'), call_id: id, name, arguments: '' });
    const item = this.#growing('function_call');
    if (item === null) throw new Error('a part of a call that has not begun');
    item.arguments += delta;
    if (delta !== '') this.emit('response.function_call_arguments.delta', { ...this.#call(item), delta });
  }

  /** Ends the last item. An answer without any has an empty message. */
  end(status: ItemStatus): void {
    if (this.items.length === 0) this.text('');
    this.#close(status);
  }

  #growing<T extends OutputItem['type']>(type: T): Item<T> | null {
    const last = this.items.at(-1);
    return this.#isOpen && last?.type === type ? (last as Item<T>) : null;
  }

  #open<T extends OutputItem>(item: T): T {
    this.#close('completed');
    const output_index = this.items.push(item) - 1;
    this.#isOpen = true;
    const isWhole = item.type === 'function_call';
    this.emit('response.output_item.added', { output_index, item: isWhole ? item : { ...item, content: [] } });
    if (!isWhole) this.emit('response.content_part.added', { ...this.#place(item), part: item.content[0] });
    return item;
  }

  #close(status: ItemStatus): void {
    const item = this.items.at(-1);
    if (!this.#isOpen || item === undefined) return;
    this.#isOpen = false;
    item.status = status;
    if (item.type === 'function_call') {
      const { name, arguments: text } = item;
      this.emit('response.function_call_arguments.done', { ...this.#call(item), name, arguments: text });
    } else {
      const place = this.#place(item);
      const [part] = item.content;
      this.emit(`response.${part.type}.done`, { ...place, text: part.text, logprobs: part.logprobs });
      this.emit('response.content_part.done', { ...place, part });
    }
    this.emit('response.output_item.done', { output_index: this.items.length - 1, item });
  }

  #call({ id }: OutputItem) {
    return { item_id: id, output_index: this.items.length - 1 };
  }

  #place(item: OutputItem) {
    return { ...this.#call(item), content_index: 0 };
  }

  #head<T extends OutputItem['type']>(type: T, prefix: string) {
    const number = this.items.length === 0 ? '' : `_${this.items.length}`;
    return { type, id: `${prefix}_${this.answerId}${number}`, status: 'in_progress' as const };
  }
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

/** The response in this state. Only an ended one has usage. */
function responseOf(
  body: ResponsesBody,
  answer: FormAnswer,
  status: ItemStatus | 'failed',
  output: readonly OutputItem[] = [],
  error: ApiError | null = null,
) {
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
  let number = 0;
  const emit: Emit = (type, fields) => send?.({ type, sequence_number: number++, ...fields }, type);
  const output = new Output(answer.request.id, emit);
  let isBegun = false;
  let status: 'completed' | 'incomplete' = 'completed';
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begin = (): void => {
    if (isBegun) return;
    isBegun = true;
    const response = responseOf(body, answer, 'in_progress');
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
      else output.text(saidOf(piece));
    },
    end() {
      const response = responseOf(body, answer, status, output.items);
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
      emit('response.failed', { response: responseOf(body, answer, 'failed', items, error) });
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
