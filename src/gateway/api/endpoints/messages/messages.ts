/** POST /v1/messages: a chat in the form of Anthropic's messages, whole or as named events. */
import { type Item, Items } from '../../generation/items.js';
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

/** The input of a call, or an empty one for a call that was cut. */
function inputOf(text: string): object {
  try {
    // The grammar of calls lets only objects through.
    return JSON.parse(text) as object;
  } catch {
    return {};
  }
}

/** By kind of item: its block, and the delta that adds a text to it. */
const BLOCKS: Readonly<Record<Item['kind'], { of(item: Item): object; delta(text: string): object }>> = {
  text: {
    of: ({ text }) => ({ type: 'text', text }),
    delta: (text) => ({ type: 'text_delta', text }),
  },
  thoughts: {
    // The server signs nothing.
    of: ({ text }) => ({ type: 'thinking', thinking: text, signature: '' }),
    delta: (thinking) => ({ type: 'thinking_delta', thinking }),
  },
  call: {
    // The prefix of the id is Anthropic's. The id comes back in a tool_result.
    of: ({ id, name, text }) => {
      const head = { type: 'tool_use', id: id.replace(/^call_/, 'toolu_'), name };
      return { ...head, input: inputOf(text), caller: { type: 'direct' } };
    },
    delta: (partial_json) => ({ type: 'input_json_delta', partial_json }),
  },
};

const blockOf = (item: Item): object => BLOCKS[item.kind].of(item);

/** The end of an answer, as a whole message and the last delta of a stream state it; null: it has only begun. */
function endOf(answer: FormAnswer, reason: Static<typeof StopReason> | null) {
  const stop_sequence = reason === null ? null : (answer.choices[0]?.stopString ?? null);
  // No answer of this server fills the last two.
  return { stop_reason: reason, stop_sequence, stop_details: null, container: null };
}

function messageOf(answer: FormAnswer, content: readonly object[], end: ReturnType<typeof endOf>) {
  const { id, modelName: model } = answer.request;
  const head = { id: `msg_${id}`, type: 'message', role: 'assistant', model, content };
  return { ...head, ...end, diagnostics: null, usage: usageOf(answer) };
}

/** The content blocks of an answer, whose events a stream has. */
function blocksOf(emit: (type: string, fields?: object) => void): Items {
  return new Items({
    begins(item) {
      emit('content_block_start', { index: item.index, content_block: blockOf(item) });
      if (item.index === 0) emit('ping');
    },
    grows({ kind, index }, text) {
      emit('content_block_delta', { index, delta: BLOCKS[kind].delta(text) });
    },
    ends({ index }) {
      emit('content_block_stop', { index });
    },
  });
}

/** Most characters of a user's name in the log. Claude Code's names are longer than OpenAI's limit. */
const MAX_USER = 256;

function messageForm(
  { id, body }: Pick<ApiRequest<MessagesBody>, 'id' | 'body'>,
  answer: FormAnswer,
  send?: EventStream['send'],
): Form {
  const emit = (type: string, fields = {}): void => send?.({ type, ...fields }, type);
  const blocks = blocksOf(emit);
  let isBegun = false;
  return {
    add(piece) {
      // The stream begins with the first token, so that a rejection is a plain error.
      if (!isBegun) emit('message_start', { message: messageOf(answer, [], endOf(answer, null)) });
      isBegun = true;
      if ('text' in piece) blocks.add(piece);
    },
    end() {
      blocks.end();
      const end = endOf(answer, stopReason(answer, body));
      emit('message_delta', { delta: end, usage: usageOf(answer), sortie: answer.report() });
      emit('message_stop');
      return messageOf(answer, blocks.list.map(blockOf), end);
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
