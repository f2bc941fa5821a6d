/** POST /v1/completions: from a valid body to an answer, whole or as chunks. */
import { invalid } from '../errors.js';
import type { ChoiceToken, Delta } from '../generation/choice.js';
import { chunkForm } from '../generation/chunks.js';
import { MOST_CHOICES, readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import { CompletionLogprobs, completionLogprobs, promptTokens } from '../generation/logprobs.js';
import { encodePrompt, waitLimitOf, type Prompt, type WaitLimit } from '../generation/prompt.js';
import { budgetOf, readRequest, type GenerationRequest } from '../generation/read-request.js';
import type { FormAnswer } from '../generation/serve.js';
import { answerGrammar } from '../params/structured-outputs.js';
import { rejectUnsupported, checkIds } from '../params/value-limits.js';
import { FinishReason, generationFields, oneOf, Usage } from '../schemas/shared.js';
import { SortieReport } from '../schemas/report.js';
import { nullable, type Static, Type } from '../../../util/schema.js';
import type { GeneratingEndpoint } from './endpoint.js';

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

const CompletionAnswer = Type.Object({
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

/** OpenAI's default for this endpoint. */
const DEFAULT_MAX_TOKENS = 16;

function isTokenIds(prompt: readonly unknown[]): prompt is readonly number[] {
  return prompt.every((item) => typeof item === 'number');
}

function idsPrompt(context: ApiContext, ids: readonly number[]): Prompt {
  checkIds('prompt', ids, context.model.tokenizer.vocabulary);
  if (ids.length === 0) throw invalid('prompt', 'must not be empty');
  // readRequest rejects a prompt that does not fit, so its text is not needed.
  const fits = ids.length <= readyEngine(context).maxLength;
  return { ids, text: fits ? context.model.tokenizer.decode(ids, { special: true }) : '' };
}

async function prompts(context: ApiContext, body: CompletionBody, waitLimit: WaitLimit): Promise<Prompt[]> {
  const { prompt, add_special_tokens: addSpecial = true } = body;
  const encoding = { addSpecial, param: 'prompt', waitLimit };
  if (typeof prompt === 'string') return [await encodePrompt(context, prompt, encoding)];
  if (isTokenIds(prompt)) return [idsPrompt(context, prompt)];
  if (prompt.length > MOST_CHOICES)
    throw invalid('prompt', `must have at most ${MOST_CHOICES} items, got ${prompt.length}`);
  const encoded: Prompt[] = [];
  for (const item of prompt) {
    encoded.push(typeof item === 'string' ? await encodePrompt(context, item, encoding) : idsPrompt(context, item));
  }
  return encoded;
}

async function read(context: ApiContext, request: ApiRequest<CompletionBody>): Promise<GenerationRequest> {
  const { body } = request;
  rejectUnsupported(body, CompletionBody.properties);
  const echo = body.echo === true;
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
  if (maxTokens === 0 && !echo) throw invalid('max_tokens', 'must be at least 1, or echo must be true');
  const budget = budgetOf(context, request);
  return readRequest(context, request, {
    kind: 'completion',
    budget,
    prompts: await prompts(context, body, waitLimitOf(request, budget)),
    promptParam: 'prompt',
    maxTokens,
    defaultTokens: DEFAULT_MAX_TOKENS,
    logprobs: body.logprobs ?? null,
    echo,
    grammar: answerGrammar(body),
    prediction: null,
  });
}

/**
 * Text and log-probabilities of a choice, or of a part. @param isFirst whether the part has the echoed prompt, if any
 */
function fields(
  answer: FormAnswer,
  part: Pick<Delta, 'index' | 'text'> & { readonly tokens: readonly ChoiceToken[] },
  isFirst: boolean,
) {
  const { tokenizer } = answer.model;
  const { echo, engine } = answer.request;
  const prompt = echo && isFirst ? answer.promptOf(part.index) : null;
  const text = (prompt?.text ?? '') + part.text;
  if (tokenizer === null || engine.logprobs === null) return { text, logprobs: null };
  const echoed = prompt && promptTokens(tokenizer, prompt, answer.choices[part.index]?.promptLogprobs ?? []);
  return { text, logprobs: completionLogprobs(tokenizer, [...(echoed ?? []), ...part.tokens]) };
}

export const completions: GeneratingEndpoint<CompletionBody> = {
  path: '/v1/completions',
  operationId: 'createCompletion',
  summary: 'Complete a prompt at the depth that the budget allows',
  tag: 'OpenAI',
  operation: 'text_completion',
  body: CompletionBody,
  answer: CompletionAnswer,
  events: 'of the same form.',
  userOf: ({ user }) => user,
  read,
  form: (_request, answer, send) =>
    chunkForm(
      answer,
      {
        idPrefix: 'cmpl-',
        object: { chunk: 'text_completion', whole: 'text_completion' },
        delta: (piece, isFirst) => fields(answer, piece, isFirst),
        end: { text: '', logprobs: null },
        whole: ({ logprobs, ...choice }, tokens, index) => ({
          ...choice,
          logprobs: logprobs ?? fields(answer, { index, text: '', tokens }, true).logprobs,
        }),
      },
      send,
    ),
  terminator: '[DONE]',
};
