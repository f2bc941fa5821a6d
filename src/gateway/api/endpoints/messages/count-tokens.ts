/** POST /v1/messages/count_tokens: counts the prompt as /v1/messages makes it. */
import { type Static, Type } from '../../../../util/schema.js';
import { countTranslated } from '../chat-completions/translated-chat.js';
import { requestedModel } from '../../params/depth.js';
import { plainEndpoint } from '../endpoint.js';
import { CountTokensBody } from './messages-body.js';
import { translate } from './translate-messages.js';

const CountTokensAnswer = Type.Object({ input_tokens: Type.Integer() });
type CountTokensAnswer = Static<typeof CountTokensAnswer>;

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
  async serve(context, { body, signal }): Promise<CountTokensAnswer> {
    requestedModel(context.model, body.model);
    return { input_tokens: await countTranslated(context, translate(context.model, body), signal) };
  },
});
