/**
 * Schemas that several endpoints share: errors, sampling, budget, usage.
 *
 * They are the one source for types, validation and openapi.json. A body may set an optional field to `null`:
 * http/body.ts removes it before validation, so schemas do not repeat it. `x-rule` completes "must be ..." in the
 * error of a union.
 */
import { LONGEST_STOP, MOST_STOPS } from '../../text/stop-strings.js';
import { ASKED } from './headers.js';
import { type Static, type TObject, type TSchema, Type, allOptional, words, nullable } from '../../../util/schema.js';

/** One of these words, with the words as its error. */
export function oneWord<const T extends string[]>(
  values: readonly [...T],
  description?: string,
): ReturnType<typeof words<T>> {
  const quoted = values.map((value) => `"${value}"`);
  const rule = `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
  return words(values, { 'x-rule': rule, ...(description !== undefined && { description }) });
}

/** A union with one sentence as its error. */
export function oneOf<const T extends TSchema[]>(rule: string, types: [...T], description?: string) {
  return Type.Union(types, { 'x-rule': rule, ...(description !== undefined && { description }) });
}

/**
 * A string or an array, without a union: an error then names the item at fault.
 * @param rule completes "must be ..." in the error for another type
 * @param options more keywords, such as a description
 */
export function stringOr<const Item extends TSchema>(rule: string, items: Item, options: object = {}) {
  return Type.Unsafe<string | Static<Item>[]>({ type: ['string', 'array'], items, 'x-rule': rule, ...options });
}

export const NullableString = nullable(Type.String());
export const NullableNumber = nullable(Type.Number());

export const ErrorAnswer = Type.Object({
  error: Type.Object(
    { message: Type.String(), type: Type.String(), param: NullableString, code: NullableString },
    { additionalProperties: true },
  ),
});

const positiveMs = { exclusiveMinimum: 0, maximum: 86_400_000 };

/** Body fields equal to the budget headers, for clients that cannot set headers. They win over the headers. */
export const SortieRequest = Type.Object(
  {
    ...allOptional({
      latency_budget_ms: Type.Number({
        ...positiveMs,
        description: `Total latency budget in ms, from arrival to the last byte. Header: ${ASKED.budget}.`,
      }),
      slo_ttft_ms: Type.Number({ ...positiveMs, description: `TTFT budget in ms. Header: ${ASKED.ttft}.` }),
      slo_tpot_ms: Type.Number({ ...positiveMs, description: `TPOT budget in ms, a mean. Header: ${ASKED.tpot}.` }),
      first_sentence_ms: Type.Number({
        ...positiveMs,
        description: `Budget of the first whole sentence in ms. Header: ${ASKED.sentence}.`,
      }),
      budget_on_miss: oneWord(
        ['land', 'continue', 'truncate', 'reject'],
        'What becomes of an answer that would be late. land (the default with a total budget): it ends early, at the ' +
          'end of a sentence, or at its deadline where no sentence ends. continue (the default without one): it ends ' +
          'late. truncate: it ends at its deadline. reject: it lands, and the server rejects a budget that not even a ' +
          `landing keeps. Header: ${ASKED.onMiss}.`,
      ),
      exit_layer: oneOf(
        'an integer or a range such as "15-30"',
        [Type.Integer(), Type.String()],
        `Pins the exit layer, or bounds it: "15-30". Header: ${ASKED.exit}.`,
      ),
      speculate: Type.Boolean({
        description:
          'Allows drafts: several tokens per step while the answer decodes alone. Absent: as --speculate says.',
      }),
      dry_run: Type.Boolean({
        default: false,
        description:
          'Plans the request as at this moment, and generates nothing. The answer is empty, and the report has the ' +
          'plan and its predictions.',
      }),
      show_sampling: Type.Boolean({
        default: false,
        description: 'Adds the sampling of the answer to the report, as sampling.',
      }),
    }),
  },
  // Sortie's own object: an unknown name is a mistake, not another server's extension.
  { description: 'Latency budget and depth.', additionalProperties: false },
);
export type SortieRequest = Static<typeof SortieRequest>;

const stopString = Type.String({ minLength: 1, maxLength: LONGEST_STOP });
export const StopStringList = Type.Array(stopString, { maxItems: MOST_STOPS });
const Stop = oneOf(`a string of 1 to ${LONGEST_STOP} characters, or an array of at most ${MOST_STOPS} of these`, [
  stopString,
  StopStringList,
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

/** A JSON schema, or its text. */
const SchemaOrText = oneOf('a JSON schema, or its text', [...JsonSchema.anyOf, Type.String()]);

/** vLLM's object. */
const StructuredOutputs = Type.Object(
  {
    json: Type.Optional(SchemaOrText),
    json_object: Type.Optional(Type.Boolean()),
    regex: Type.Optional(Type.String({ minLength: 1, description: 'The expression matches the whole answer.' })),
    choice: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })),
    grammar: Type.Optional(
      Type.String({ minLength: 1, description: 'In the notation of Lark, in the dialect of llguidance.' }),
    ),
  },
  { description: 'The form of the answer: exactly one of these fields.' },
);

export const AddSpecialTokens = Type.Boolean({
  description:
    "Adds the tokenizer's own begin and end tokens, as in vLLM. Default: true for prompt, false for messages, " +
    'whose template has them.',
});

/** Default of a sampling field, for its description. */
const OF_MODEL = "Default: the model's (sampling_defaults in GET /props).";

/** Fields that completions and chat completions have in common. */
export const generationFields = {
  ...allOptional({
    model: Type.String({
      description:
        'NAME routes by budget, NAME:EXIT pins an exit: its layers, or loops of a looped model. Absent: NAME.',
    }),
    stream: Type.Boolean({ default: false }),
    stream_options: Type.Object({
      include_usage: Type.Optional(Type.Boolean()),
      continuous_usage_stats: Type.Optional(Type.Boolean()),
    }),
    min_tokens: Type.Integer({ minimum: 0, default: 0 }),
    n: Type.Integer({ minimum: 1, default: 1 }),
    stop: Stop,
    stop_token_ids: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 64 }),
    ignore_eos: Type.Boolean({ default: false }),
    temperature: Type.Number({
      minimum: 0,
      maximum: 2,
      description: `A value below 0.00001 counts as 0, which picks the most likely token. ${OF_MODEL}`,
    }),
    top_p: Type.Number({ exclusiveMinimum: 0, maximum: 1, description: OF_MODEL }),
    top_k: Type.Integer({ minimum: -1, description: `0 and -1 turn it off. ${OF_MODEL}` }),
    min_p: Type.Number({ minimum: 0, maximum: 1, description: `0 turns it off. ${OF_MODEL}` }),
    seed: Type.Integer({ minimum: -Number.MAX_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }),
    presence_penalty: Type.Number({ minimum: -2, maximum: 2, default: 0 }),
    frequency_penalty: Type.Number({ minimum: -2, maximum: 2, default: 0 }),
    repetition_penalty: Type.Number({ exclusiveMinimum: 0, maximum: 2, description: `1 turns it off. ${OF_MODEL}` }),
    dry_multiplier: Type.Number({
      minimum: 0,
      maximum: 100,
      description:
        'The DRY penalty of llama.cpp, on the answer alone and without sequence breakers. A token that continues a ' +
        'repetition of n tokens loses dry_multiplier * dry_base^(n - dry_allowed_length). 0 turns it off. Default: ' +
        'the rule of the exit (GET /props), or off if the request states another penalty that is not neutral.',
    }),
    dry_base: Type.Number({ minimum: 1, maximum: 10, default: 1.75 }),
    dry_allowed_length: Type.Integer({ minimum: 1, maximum: 64, default: 2 }),
    logit_bias: Type.Record(Type.String(), Type.Number({ minimum: -100, maximum: 100 })),
    response_format: ResponseFormat,
    structured_outputs: StructuredOutputs,
  }),
  add_special_tokens: Type.Optional(AddSpecialTokens),
  cache_salt: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 256,
      description: 'The prompt shares its prefix only with prompts that have the same salt.',
    }),
  ),
  user: Type.Optional(Type.String({ maxLength: 256, description: 'Written to the request log.' })),
  sortie: Type.Optional(SortieRequest),
};

export type GenerationBody = Static<TObject<typeof generationFields>>;

export const FinishReason = words(['stop', 'length']);

export const Usage = Type.Object({
  prompt_tokens: Type.Integer(),
  completion_tokens: Type.Integer(),
  total_tokens: Type.Integer(),
  prompt_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
  completion_tokens_details: Type.Object({
    reasoning_tokens: Type.Integer(),
    accepted_prediction_tokens: Type.Integer(),
    rejected_prediction_tokens: Type.Integer(),
  }),
});
export type Usage = Static<typeof Usage>;
