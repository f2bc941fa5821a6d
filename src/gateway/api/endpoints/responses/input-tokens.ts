/** POST /v1/responses/input_tokens: counts the prompt as /v1/responses makes it. */
import { type Static, Type } from '../../../../util/schema.js';
import { countTranslated } from '../chat-completions/translated-chat.js';
import { stated } from '../../errors.js';
import { requestedModel } from '../../params/depth.js';
import { plainEndpoint } from '../endpoint.js';
import { InputTokensBody } from './responses-body.js';
import { checkSupported, translate, withoutIgnored } from './translate-responses.js';

const InputTokensAnswer = Type.Object({
  object: Type.Literal('response.input_tokens'),
  input_tokens: Type.Integer(),
});
type InputTokensAnswer = Static<typeof InputTokensAnswer>;

export const inputTokens = plainEndpoint<InputTokensBody>({
  path: '/v1/responses/input_tokens',
  operationId: 'countInputTokens',
  summary: 'Count the tokens of the prompt of a response',
  tag: 'OpenAI',
  body: InputTokensBody,
  answer: InputTokensAnswer,
  meaning: 'The tokens of the prompt.',
  isShared: true,
  async serve(context, { body, signal }): Promise<InputTokensAnswer> {
    const { input, ...others } = body;
    if (body.instructions === undefined) stated(input, 'input');
    const asked = { ...others, input: input ?? [] };
    checkSupported(asked);
    requestedModel(context.model, body.model);
    const tokens = await countTranslated(context, translate(withoutIgnored(context, asked)), signal);
    return { object: 'response.input_tokens', input_tokens: tokens };
  },
});
