/** POST /tokenize, in vLLM's form: the tokens of a text or of a chat. Must not know: the engine's work. */
import { type Static, Type } from '../../../util/schema.js';
import { ApiError, invalid } from '../errors.js';
import { type ApiContext, readyEngine } from '../context.js';
import { countingRules, encodePrompt, type Encoding } from '../generation/prompt.js';
import { requestedModel } from '../params/depth.js';
import { rejectUnsupported } from '../params/value-limits.js';
import { AddSpecialTokens } from '../schemas/shared.js';
import { ChatBody, ChatMessageBody, endingFields, templateFields, toolFields } from './chat-completions/chat-body.js';
import { chatPrompt } from './chat-completions/chat-prompt.js';
import { chatTools } from './chat-completions/tool-grammar.js';
import { CompletionBody } from './completions.js';
import { plainEndpoint } from './endpoint.js';

export const TokenizeBody = Type.Object(
  {
    model: Type.Optional(Type.String()),
    prompt: Type.Optional(Type.String({ description: 'Text to tokenize. Give either prompt or messages.' })),
    messages: Type.Optional(
      Type.Array(ChatMessageBody, { minItems: 1, description: 'Messages, which the chat template renders.' }),
    ),
    tools: toolFields.tools,
    add_special_tokens: Type.Optional(AddSpecialTokens),
    ...endingFields,
    ...templateFields,
  },
  { examples: [{ prompt: 'Rivers flow to the sea.' }] },
);
type TokenizeBody = Static<typeof TokenizeBody>;

const TokenizeAnswer = Type.Object({
  count: Type.Integer(),
  max_model_len: Type.Integer(),
  tokens: Type.Array(Type.Integer()),
});
type TokenizeAnswer = Static<typeof TokenizeAnswer>;

/** Fields of generation requests, which /tokenize accepts so that a request can be counted unchanged. */
const COUNTED = { ...CompletionBody.properties, ...ChatBody.properties, ...TokenizeBody.properties };

async function promptTokens(context: ApiContext, text: string, encoding: Encoding): Promise<readonly number[]> {
  // The empty text can be counted, although no answer can follow it.
  if (text === '') return context.model.tokenizer.encode(text, encoding.addSpecial);
  return (await encodePrompt(context, text, encoding)).ids;
}

export const tokenize = plainEndpoint<TokenizeBody>({
  path: '/tokenize',
  operationId: 'tokenize',
  summary: 'Turn a text or a chat into token ids',
  tag: 'Tokens',
  body: TokenizeBody,
  answer: TokenizeAnswer,
  meaning: 'Token ids.',
  isShared: true,
  /** @throws ApiError invalid_value unless the body has exactly one of prompt and messages, or unsupported_parameter */
  async serve(context, { body, signal }): Promise<TokenizeAnswer> {
    rejectUnsupported(body, COUNTED);
    requestedModel(context.model, body.model);
    const { maxLength } = readyEngine(context);
    if ((body.prompt === undefined) === (body.messages === undefined)) {
      throw new ApiError('invalid_value', 'Give either prompt or messages.', 'prompt');
    }
    if (body.tools !== undefined && body.messages === undefined) {
      throw invalid('tools', 'is only allowed with messages');
    }
    const rules = countingRules(signal);
    const addSpecial = body.add_special_tokens ?? true;
    const tokens =
      body.messages === undefined
        ? await promptTokens(context, body.prompt ?? '', { ...rules, addSpecial, param: 'prompt' })
        : (
            await chatPrompt(
              context,
              { ...body, messages: body.messages },
              { ...rules, tools: chatTools(body.tools ?? []) },
            )
          ).ids;
    return { count: tokens.length, max_model_len: maxLength, tokens: [...tokens] };
  },
});
