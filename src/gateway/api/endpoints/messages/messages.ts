/** POST /v1/messages: a chat in the form of Anthropic's messages, whole or as named events. */
import type { CallPart } from '../../generation/call-reader.js';
import { saidOf } from '../../generation/joined-fields.js';
import type { GenerationRequest } from '../../generation/read-request.js';
import type { Form, FormAnswer } from '../../generation/serve.js';
import type { ApiContext, ApiRequest, EventStream } from '../../context.js';
import type { ApiError } from '../../errors.js';
import { requestedModel } from '../../params/depth.js';
import { SortieReport } from '../../schemas/report.js';
import { NullableString } from '../../schemas/shared.js';
import { nullable, type Static, Type, words } from '../../../../util/schema.js';
import { countTranslated, readAsChat } from '../chat-completions/translated-chat.js';
import { type GeneratingEndpoint, plainEndpoint } from '../endpoint.js';
import { CountTokensBody, MessagesBody, translate } from './messages-body.js';

type AnswerBlock =
  | { readonly type: 'text'; text: string }
  // The server signs nothing.
  | { readonly type: 'thinking'; thinking: string; readonly signature: '' }
  | {
      readonly type: 'tool_use';
      readonly id: string;
      readonly name: string;
      input: object;
      readonly caller: { readonly type: 'direct' };
    };

const StopReason = words([
  'end_turn',
  'stop_sequence',
  'tool_use',
  'max_tokens',
  'model_context_window_exceeded',
  'refusal',
]);

const MessagesUsage = Type.Object({
  input_tokens: Type.Integer({ description: 'Tokens of the prompt without those in cache_read_input_tokens.' }),
  cache_creation_input_tokens: Type.Literal(0),
  cache_read_input_tokens: Type.Integer({ description: 'Tokens of the prompt that a shared prefix saved.' }),
  output_tokens: Type.Integer(),
});

/** Anthropic's message. */
const MessagesAnswer = Type.Object(
  {
    id: Type.String(),
    type: Type.Literal('message'),
    role: Type.Literal('assistant'),
    model: Type.String(),
    content: Type.Array(Type.Object({ type: words(['text', 'thinking', 'tool_use']) }, { additionalProperties: true })),
    stop_reason: nullable(StopReason),
    stop_sequence: NullableString,
    usage: MessagesUsage,
    sortie: SortieReport,
  },
  { additionalProperties: true },
);

/** The form of an error, which is also the data of an error event. */
export const MessagesErrorAnswer = Type.Object({
  type: Type.Literal('error'),
  error: Type.Object({ type: Type.String(), message: Type.String() }, { additionalProperties: true }),
  request_id: Type.String(),
});

/** Anthropic's names for the kinds of errors. A 502 or 503 has lost or lacks room: its clients retry both. */
const ERROR_TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  404: 'not_found_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  502: 'overloaded_error',
  503: 'overloaded_error',
};
const typeOf = (status: number): string =>
  ERROR_TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error');

/** The body of an error, which is also the data of an error event. Sortie's fields come after Anthropic's two. */
export function messagesError({ message, param, code, status, extra }: ApiError, request_id: string): object {
  return { type: 'error', error: { type: typeOf(status), message, param, code, ...extra }, request_id };
}

/** An error of an upstream in this form. A text that is not OpenAI's JSON is cut. */
function upstreamError(status: number, text: string, request_id: string): string {
  let message: unknown;
  try {
    message = (JSON.parse(text) as { error?: { message?: unknown } | null }).error?.message;
  } catch {
    // Proxies answer in HTML.
  }
  if (typeof message !== 'string') message = `The upstream model rejected the request: ${text.slice(0, 200)}`;
  return JSON.stringify({ type: 'error', error: { type: typeOf(status), message }, request_id });
}

/** @throws ApiError as a chat does. More tokens than the context has left are allowed: the answer ends there. */
async function read(context: ApiContext, request: ApiRequest<MessagesBody>): Promise<GenerationRequest> {
  const { body } = request;
  // Clients ask for 4,096 or 32,000 tokens without knowing the context. A default is cut to the context, as Anthropic
  // does with the limit.
  const limits = { ...context.limits, maxTokensDefault: body.max_tokens };
  return readAsChat({ ...context, limits }, request, translate(body));
}

/** The fields that no answer of this server fills. */
const UNFILLED = { stop_details: null, container: null } as const;

/** Anthropic counts the tokens of a shared prefix apart from the other input. */
function usageOf(answer: FormAnswer): Static<typeof MessagesUsage> {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = answer.usage();
  const { cached_tokens: cached } = prompt_tokens_details;
  return {
    input_tokens: prompt_tokens - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: completion_tokens,
  };
}

function stopReason(answer: FormAnswer, { max_tokens: asked }: MessagesBody): Static<typeof StopReason> {
  const [choice] = answer.choices;
  if (choice?.finishReason === 'content_filter') return 'refusal';
  if (choice?.finishReason === 'tool_calls') return 'tool_use';
  if (choice?.finishReason === 'stop') return choice.stopString === null ? 'end_turn' : 'stop_sequence';
  const { maxTokens: most = asked } = answer.request.engine.sequences[0] ?? {};
  // An answer that its deadline cut has fewer tokens.
  const isAtContext = most < asked && choice?.completionTokens === most;
  return isAtContext ? 'model_context_window_exceeded' : 'max_tokens';
}

/** The end of an answer, as a whole message and the last delta of a stream state it. */
function endOf(answer: FormAnswer, body: MessagesBody) {
  return {
    stop_reason: stopReason(answer, body),
    stop_sequence: answer.choices[0]?.stopString ?? null,
    ...UNFILLED,
  };
}

/** @param end absent: the answer has only begun */
function messageOf(answer: FormAnswer, content: AnswerBlock[], end?: ReturnType<typeof endOf>) {
  return {
    id: `msg_${answer.request.id}`,
    type: 'message',
    role: 'assistant',
    model: answer.request.modelName,
    content,
    ...(end ?? { stop_reason: null, stop_sequence: null, ...UNFILLED }),
    diagnostics: null,
    usage: usageOf(answer),
  };
}

/** Sends an event of this type, if the message is a stream. */
type Emit = (type: string, fields?: object) => void;

type Block<T extends AnswerBlock['type']> = Extract<AnswerBlock, { type: T }>;

/** The input of a call, or an empty one for a call that was cut. */
function inputOf(text: string): object {
  try {
    // The grammar of calls lets only objects through.
    return JSON.parse(text) as object;
  } catch {
    return {};
  }
}

/** The blocks of a message: one for its thoughts, one for its text, one for each call. The last one may be open. */
class Blocks {
  readonly content: AnswerBlock[] = [];
  #isOpen = false;
  /** Arguments of the last call so far. */
  #arguments = '';

  constructor(private readonly emit: Emit) {}

  text(text: string): void {
    if (text === '') return;
    const block = this.#open('text') ?? this.#start({ type: 'text', text: '' });
    this.#delta({ type: 'text_delta', text });
    block.text += text;
  }

  thoughts(thinking: string): void {
    const block = this.#open('thinking') ?? this.#start({ type: 'thinking', thinking: '', signature: '' });
    this.#delta({ type: 'thinking_delta', thinking });
    block.thinking += thinking;
  }

  call({ id, name = '', arguments: text }: CallPart): void {
    // The prefix of the id is Anthropic's. The id comes back in a tool_result.
    const head = { name, input: {}, caller: { type: 'direct' } } as const;
    if (id !== undefined) this.#start({ type: 'tool_use', id: id.replace(/^call_/, 'toolu_'), ...head });
    if (text !== '') this.#delta({ type: 'input_json_delta', partial_json: text });
    this.#arguments += text;
  }

  end(): void {
    const call = this.#open('tool_use');
    if (call !== null) call.input = inputOf(this.#arguments);
    if (this.#isOpen) this.emit('content_block_stop', { index: this.content.length - 1 });
    this.#isOpen = false;
  }

  #open<T extends AnswerBlock['type']>(type: T): Block<T> | null {
    const last = this.content.at(-1);
    return this.#isOpen && last?.type === type ? (last as Block<T>) : null;
  }

  #start<T extends AnswerBlock>(block: T): T {
    this.end();
    this.#arguments = '';
    this.#isOpen = true;
    const index = this.content.push(block) - 1;
    this.emit('content_block_start', { index, content_block: block });
    if (index === 0) this.emit('ping');
    return block;
  }

  #delta(delta: object): void {
    this.emit('content_block_delta', { index: this.content.length - 1, delta });
  }
}

/** Most characters of a user's name in the log. Claude Code's names are longer than OpenAI's limit. */
const MAX_USER = 256;

function messageForm(
  { id, body }: Pick<ApiRequest<MessagesBody>, 'id' | 'body'>,
  answer: FormAnswer,
  send?: EventStream['send'],
): Form {
  const emit: Emit = (type, fields = {}) => send?.({ type, ...fields }, type);
  const blocks = new Blocks(emit);
  let isBegun = false;
  return {
    add(piece) {
      // The stream begins with the first token, so that a rejection is a plain error.
      if (!isBegun) emit('message_start', { message: messageOf(answer, []) });
      isBegun = true;
      if (!('text' in piece)) blocks.end();
      else if (piece.thoughts !== '') blocks.thoughts(piece.thoughts);
      else if (piece.call === null) blocks.text(saidOf(piece));
      else blocks.call(piece.call);
    },
    end() {
      const end = endOf(answer, body);
      emit('message_delta', { delta: end, usage: usageOf(answer), sortie: answer.report() });
      emit('message_stop');
      return messageOf(answer, blocks.content, end);
    },
    failed(error) {
      send?.(messagesError(error, id), 'error');
    },
  };
}

export const messages: GeneratingEndpoint<MessagesBody> = {
  path: '/v1/messages',
  operationId: 'createMessage',
  summary: 'Answer a chat at the depth that the budget allows',
  tag: 'Anthropic',
  dialect: 'anthropic',
  operation: 'chat',
  body: MessagesBody,
  answer: MessagesAnswer,
  events: 'from message_start to message_stop.',
  userOf: ({ metadata }) => metadata?.user_id?.slice(0, MAX_USER),
  read,
  form: messageForm,
  elsewhere: {
    translate(body, mostTokens) {
      // Clients must state a length, and can't know the bound of their key.
      const max_tokens = Math.min(body.max_tokens, mostTokens ?? Infinity);
      const translation = translate(body, false);
      return { ...translation, body: { ...translation.body, max_tokens } };
    },
    errorBody: upstreamError,
  },
  terminator: null,
};

const CountTokensAnswer = Type.Object({ input_tokens: Type.Integer() });

export const countTokens = plainEndpoint<CountTokensBody>({
  path: '/v1/messages/count_tokens',
  operationId: 'countTokens',
  summary: 'Count the tokens of a prompt',
  tag: 'Anthropic',
  dialect: 'anthropic',
  body: CountTokensBody,
  answer: CountTokensAnswer,
  meaning: 'The tokens of the prompt.',
  isShared: true,
  async serve(context, { body, signal }): Promise<Static<typeof CountTokensAnswer>> {
    requestedModel(context.model, body.model);
    return { input_tokens: await countTranslated(context, translate(body), signal) };
  },
});
