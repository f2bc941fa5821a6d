/** Schemas of POST /tokenize and /detokenize, in vLLM's form. */
import { type Static, Type } from '../../util/schema.js';
import { ChatMessageBody, endingFields, templateFields } from './chat.js';
import { AddSpecialTokens } from './shared.js';
import { toolFields } from './tools.js';

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
export type TokenizeBody = Static<typeof TokenizeBody>;

export const TokenizeAnswer = Type.Object({
  count: Type.Integer(),
  max_model_len: Type.Integer(),
  tokens: Type.Array(Type.Integer()),
});
export type TokenizeAnswer = Static<typeof TokenizeAnswer>;

export const DetokenizeBody = Type.Object(
  {
    model: Type.Optional(Type.String()),
    tokens: Type.Array(Type.Integer({ minimum: 0 })),
  },
  { examples: [{ tokens: [100, 200, 300] }] },
);
export type DetokenizeBody = Static<typeof DetokenizeBody>;

export const DetokenizeAnswer = Type.Object({ prompt: Type.String() });
export type DetokenizeAnswer = Static<typeof DetokenizeAnswer>;
