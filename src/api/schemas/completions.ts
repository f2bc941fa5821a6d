/** Schemas of POST /v1/completions. */
import { type Static, Type, words, nullable } from '../../util/schema.js';
import { SortieReport } from './report.js';
import { generationFields, NullableNumber, oneOf, Usage } from './shared.js';

const TokenIds = Type.Array(Type.Integer({ minimum: 0 }));

export const CompletionBody = Type.Object(
  {
    ...generationFields,
    prompt: oneOf('a string, an array of strings, an array of token ids or an array of arrays of token ids', [
      Type.String(),
      Type.Array(Type.String(), { minItems: 1 }),
      Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 }),
      Type.Array(TokenIds, { minItems: 1 }),
    ]),
    max_tokens: Type.Optional(Type.Integer({ minimum: 0, default: 16 })),
    max_completion_tokens: Type.Optional(Type.Integer({ minimum: 0, description: 'Wins over max_tokens.' })),
    echo: Type.Optional(Type.Boolean({ default: false })),
    logprobs: Type.Optional(Type.Integer({ minimum: 0, maximum: 20 })),
    best_of: Type.Optional(Type.Integer({ minimum: 1, maximum: 1, description: 'The server supports 1 only.' })),
  },
  {
    examples: [
      { model: 'smollm2-135m-sorted', prompt: 'The capital of France is', max_tokens: 16, temperature: 0 },
      {
        model: 'smollm2-135m-sorted',
        prompt: 'The capital of France is',
        max_tokens: 16,
        temperature: 0,
        sortie: { latency_budget_ms: 2000 },
      },
    ],
  },
);
export type CompletionBody = Static<typeof CompletionBody>;

export const CompletionLogprobs = Type.Object({
  tokens: Type.Array(
    Type.String({
      description: 'The text of the token. A part of a character is written as bytes: bytes:\\xf0\\x9f.',
    }),
  ),
  token_logprobs: Type.Array(NullableNumber),
  top_logprobs: Type.Array(nullable(Type.Record(Type.String(), Type.Number()))),
  text_offset: Type.Array(Type.Integer({ description: "Start of the token in the choice's text, in code points." })),
});
export type CompletionLogprobs = Static<typeof CompletionLogprobs>;

export const FinishReason = words(['stop', 'length']);

export const CompletionAnswer = Type.Object({
  id: Type.String(),
  object: Type.Literal('text_completion'),
  created: Type.Integer(),
  model: Type.String(),
  choices: Type.Array(
    Type.Object({
      index: Type.Integer(),
      text: Type.String(),
      logprobs: nullable(CompletionLogprobs),
      finish_reason: FinishReason,
    }),
  ),
  usage: Usage,
  sortie: SortieReport,
});
export type CompletionAnswer = Static<typeof CompletionAnswer>;
