/**
 * Schemas that several endpoints share: errors, sampling, budget, usage.
 *
 * One source for types, validation and openapi.json. `null` for an optional field is the same as leaving it out: it is
 * removed before validation, so schemas don't repeat it. `x-rule` completes "must be ..." where a union is not met.
 */
import Type, { type Static, type TSchema } from 'typebox';

/** A union whose failure is told in one sentence. */
export function oneOf<const T extends TSchema[]>(rule: string, types: [...T]) {
  return Type.Union(types, { 'x-rule': rule });
}

export const NullableString = Type.Union([Type.String(), Type.Null()]);
export const NullableNumber = Type.Union([Type.Number(), Type.Null()]);

export const ErrorAnswer = Type.Object({
  error: Type.Object(
    { message: Type.String(), type: Type.String(), param: NullableString, code: NullableString },
    { additionalProperties: true },
  ),
});

const positiveMs = { exclusiveMinimum: 0, maximum: 86_400_000 };

/** Body twins of the budget headers, for callers that can't set headers. They win over the headers. */
export const SortieRequest = Type.Object(
  {
    latency_budget_ms: Type.Optional(
      Type.Number({
        ...positiveMs,
        description: 'From the arrival of the request to the last byte. X-Latency-Budget-Ms.',
      }),
    ),
    slo_ttft_ms: Type.Optional(Type.Number({ ...positiveMs, description: 'To the first token. X-SLO-TTFT-Ms.' })),
    slo_tpot_ms: Type.Optional(
      Type.Number({ ...positiveMs, description: 'Mean time of each later token. X-SLO-TPOT-Ms.' }),
    ),
    budget_on_miss: Type.Optional(
      oneOf('"continue", "truncate" or "reject"', [
        Type.Literal('continue'),
        Type.Literal('truncate'),
        Type.Literal('reject'),
      ]),
    ),
    exit_layer: Type.Optional(Type.Integer({ description: 'Pins the depth. X-Exit-Layer.' })),
    min_exit_layer: Type.Optional(Type.Integer({ description: 'Least depth. X-Min-Exit-Layer.' })),
    max_exit_layer: Type.Optional(Type.Integer({ description: 'Greatest depth. X-Max-Exit-Layer.' })),
    speculate: Type.Optional(
      Type.Boolean({
        description:
          'Whether the answer may be drafted and verified: several tokens a step while it decodes alone. Absent: as the server is set (--speculate).',
      }),
    ),
  },
  // Sortie's own object: a name that it does not have is a mistake, not another server's extension.
  { description: 'Latency budget and depth.', additionalProperties: false },
);
export type SortieRequest = Static<typeof SortieRequest>;

const Stop = oneOf('a non-empty string or an array of up to 4 non-empty strings', [
  Type.String({ minLength: 1 }),
  Type.Array(Type.String({ minLength: 1 }), { maxItems: 4 }),
]);

const JsonSchema = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Boolean()]);

const JsonSchemaFormat = Type.Object({
  type: Type.Literal('json_schema'),
  json_schema: Type.Object({
    name: Type.Optional(Type.String()),
    description: Type.Optional(Type.String()),
    schema: JsonSchema,
    strict: Type.Optional(Type.Boolean()),
  }),
});

const ResponseFormat = oneOf(
  '{type: "text"}, {type: "json_object"}, with a schema or without, or {type: "json_schema", json_schema: {schema}}',
  [
    Type.Object({ type: Type.Literal('text') }),
    Type.Object({ type: Type.Literal('json_object'), schema: Type.Optional(JsonSchema) }),
    JsonSchemaFormat,
  ],
);
export type ResponseFormat = Static<typeof ResponseFormat>;

/** vLLM's. */
export const AddSpecialTokens = Type.Boolean({
  description:
    "The tokenizer's own begin and end tokens. Absent: for prompt, but not for messages, whose template has them.",
});

/** Fields that completions and chat completions have in common. */
export const generationFields = {
  model: Type.Optional(
    Type.String({ description: 'NAME routes by budget, NAME:LAYER pins an exit. Absent: the served model, routed.' }),
  ),
  stream: Type.Optional(Type.Boolean({ default: false })),
  stream_options: Type.Optional(
    Type.Object({
      include_usage: Type.Optional(Type.Boolean()),
      continuous_usage_stats: Type.Optional(Type.Boolean()),
    }),
  ),
  min_tokens: Type.Optional(Type.Integer({ minimum: 0, default: 0 })),
  n: Type.Optional(Type.Integer({ minimum: 1, default: 1 })),
  stop: Type.Optional(Stop),
  stop_token_ids: Type.Optional(Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 64 })),
  ignore_eos: Type.Optional(Type.Boolean({ default: false })),
  temperature: Type.Optional(
    Type.Number({ minimum: 0, maximum: 2, default: 1, description: 'Below 0.00001 it is 0: the most likely token.' }),
  ),
  top_p: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1, default: 1 })),
  top_k: Type.Optional(Type.Integer({ minimum: -1, description: '0 and -1 are off.', default: 0 })),
  min_p: Type.Optional(Type.Number({ minimum: 0, maximum: 1, default: 0 })),
  seed: Type.Optional(Type.Integer({ minimum: -Number.MAX_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER })),
  presence_penalty: Type.Optional(Type.Number({ minimum: -2, maximum: 2, default: 0 })),
  frequency_penalty: Type.Optional(Type.Number({ minimum: -2, maximum: 2, default: 0 })),
  repetition_penalty: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 2, default: 1 })),
  dry_multiplier: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 100,
      description:
        'DRY, as llama.cpp has it, on the answer alone and without sequence breakers: a token that would go on with ' +
        'a repetition of n tokens loses dry_multiplier * dry_base^(n - dry_allowed_length). 0 is off. Absent, it is ' +
        'what the model sets for the exit (GET /props), or off where the request states another penalty.',
    }),
  ),
  dry_base: Type.Optional(Type.Number({ minimum: 1, maximum: 10, default: 1.75 })),
  dry_allowed_length: Type.Optional(Type.Integer({ minimum: 1, maximum: 64, default: 2 })),
  logit_bias: Type.Optional(Type.Record(Type.String(), Type.Number({ minimum: -100, maximum: 100 }))),
  response_format: Type.Optional(ResponseFormat),
  add_special_tokens: Type.Optional(AddSpecialTokens),
  user: Type.Optional(Type.String({ maxLength: 256, description: 'Written to the request log.' })),
  sortie: Type.Optional(SortieRequest),
};

export type GenerationBody = Static<Type.TObject<typeof generationFields>>;

export const Usage = Type.Object({
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
  prompt_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  completion_tokens_details: Type.Object({
    accepted_prediction_tokens: Type.Integer(),
    rejected_prediction_tokens: Type.Integer(),
  }),
});
export type Usage = Static<typeof Usage>;

/** What only this server has to say about an answer. */
export const SortieReport = Type.Object({
  plan: Type.Object({
    service_class: Type.Union(
      [Type.Literal('guaranteed'), Type.Literal('reserved'), Type.Literal('best_effort'), Type.Literal('none')],
      {
        description:
          'guaranteed: capacity is held for the budget, and 995 of 1000 such budgets are to be kept. reserved: capacity ' +
          'is held, without the guarantee. best_effort: no exit has capacity for the budget at admission, or the ' +
          'budget was missed. none: the request states no budget.',
      },
    ),
    exit_layer: Type.Integer(),
    expected_tokens: Type.Integer({ description: 'Median length of the answer, by which the plan goes.' }),
    expected_tokens_p90: Type.Integer({ description: 'Length that 90% of such answers do not exceed.' }),
    probability: Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()], {
      description: 'Probability that the total budget is met as planned. Null without a total budget.',
    }),
    predicted_ttft_ms: Type.Number(),
    predicted_tpot_ms: Type.Number(),
  }),
  exit_layers: Type.Record(Type.String(), Type.Integer(), { description: 'Tokens by the exit that emitted them.' }),
  predicted_ms: Type.Number(),
  predicted_p10_ms: Type.Number({ description: '80% of the outcomes lie between this and predicted_p90_ms.' }),
  predicted_p90_ms: Type.Number(),
  actual_ms: Type.Number(),
  ttft_ms: NullableNumber,
  tpot_ms: NullableNumber,
  budget_ms: NullableNumber,
  met: Type.Union([Type.Boolean(), Type.Null()], { description: 'Null when no budget was stated.' }),
  queue_ms: NullableNumber,
  draft_tokens: Type.Integer({ description: 'Drafted for the answer (speculative decoding).' }),
  accepted_draft_tokens: Type.Integer({ description: 'Of these, kept.' }),
});
export type SortieReport = Static<typeof SortieReport>;
