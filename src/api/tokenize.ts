/** POST /tokenize and /detokenize. Must not know: the engine's work. */
import { ApiError, invalid } from './errors.js';
import { chatPrompt, countedFrame } from './chat/prompt.js';
import { encodePrompt, type Encoding } from './generation/prompt.js';
import { readyEngine, type ApiContext, type ApiRequest } from './context.js';
import { modelExit } from './params/depth.js';
import { chatTools } from './chat/tools.js';
import { ChatBody } from './schemas/chat.js';
import { CompletionBody } from './schemas/completions.js';
import { TokenizeBody, type DetokenizeAnswer, type DetokenizeBody, type TokenizeAnswer } from './schemas/tokenize.js';
import { rejectUnsupported } from './params/unsupported.js';
import { checkIds } from './params/value-limits.js';

/** Fields of generation requests, which /tokenize accepts so that a request can be counted unchanged. */
const COUNTED = { ...CompletionBody.properties, ...ChatBody.properties, ...TokenizeBody.properties };

/** @throws ApiError invalid_value unless the body has exactly one of prompt and messages, or unsupported_parameter */
export async function tokenize(
  context: ApiContext,
  { body, signal }: Pick<ApiRequest<TokenizeBody>, 'body' | 'signal'>,
): Promise<TokenizeAnswer> {
  rejectUnsupported(body, COUNTED);
  modelExit(context.model, body.model);
  const { maxLength } = readyEngine(context);
  if ((body.prompt === undefined) === (body.messages === undefined)) {
    throw new ApiError('invalid_value', 'Give either prompt or messages.', 'prompt');
  }
  if (body.tools !== undefined && body.messages === undefined) {
    throw invalid('tools', 'is only allowed with messages');
  }
  const frame = countedFrame(context, body.messages ?? [], body, signal);
  const tokens =
    body.messages !== undefined
      ? (await chatPrompt(context, body.messages, chatTools(body.tools ?? []), frame)).ids
      : await promptTokens(context, body.prompt ?? '', { ...frame, addSpecial: body.add_special_tokens ?? true });
  return { count: tokens.length, max_model_len: maxLength, tokens: [...tokens] };
}

async function promptTokens(
  context: ApiContext,
  text: string,
  encoding: Omit<Encoding, 'param'>,
): Promise<readonly number[]> {
  // The empty text can be counted, although no answer can follow it.
  if (text === '') return context.model.tokenizer.encode(text, encoding.addSpecial);
  return (await encodePrompt(context, text, { ...encoding, param: 'prompt' })).ids;
}

/** @throws ApiError invalid_value for an id outside the vocabulary */
export function detokenize(context: ApiContext, body: DetokenizeBody): DetokenizeAnswer {
  modelExit(context.model, body.model);
  const { tokenizer } = context.model;
  checkIds('tokens', body.tokens, tokenizer.vocabulary);
  return { prompt: tokenizer.decode(body.tokens, { special: true }) };
}
