/** POST /detokenize, in vLLM's form. */
import { type Static, Type } from '../../../util/schema.js';
import { requestedModel } from '../params/depth.js';
import { checkIds } from '../params/value-limits.js';
import { plainEndpoint } from './endpoint.js';

export const DetokenizeBody = Type.Object(
  {
    model: Type.Optional(Type.String()),
    tokens: Type.Array(Type.Integer({ minimum: 0 })),
  },
  { examples: [{ tokens: [100, 200, 300] }] },
);
type DetokenizeBody = Static<typeof DetokenizeBody>;

const DetokenizeAnswer = Type.Object({ prompt: Type.String() });
type DetokenizeAnswer = Static<typeof DetokenizeAnswer>;

export const detokenize = plainEndpoint<DetokenizeBody>({
  path: '/detokenize',
  operationId: 'detokenize',
  summary: 'Turn token ids into text',
  tag: 'Tokens',
  body: DetokenizeBody,
  answer: DetokenizeAnswer,
  meaning: 'Text.',
  /** @throws ApiError invalid_value for an id outside the vocabulary */
  serve({ model }, { body }): DetokenizeAnswer {
    requestedModel(model, body.model);
    checkIds('tokens', body.tokens, model.tokenizer.vocabulary);
    return { prompt: model.tokenizer.decode(body.tokens, { special: true }) };
  },
});
