/** POST /v1/completions: from a valid body to an answer, whole or as chunks. */
import { invalid } from '../errors.js';
import type { Answer } from '../generation/answer.js';
import type { ChoiceToken } from '../generation/choice.js';
import { chunkForm } from '../generation/chunks.js';
import { readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import { CompletionLogprobs, completionLogprobs, promptTokens, type ScoredToken } from '../generation/logprobs.js';
import { encodePrompt, waitLimitOf, type Prompt, type WaitLimit } from '../generation/prompt.js';
import { budgetOf, readRequest, type GenerationRequest } from '../generation/read-request.js';
import { answerGrammar } from '../params/structured-outputs.js';
import { checkBounds } from '../params/thoughts.js';
import { rejectUnsupported } from '../params/unsupported.js';
import { checkIds } from '../params/value-limits.js';
import { FinishReason, generationFields, oneOf, Usage } from '../schemas/shared.js';
import { SortieReport } from '../schemas/report.js';
import { nullable, type Static, Type } from '../../util/schema.js';
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
  const { maxChoices } = context.limits;
  if (prompt.length > maxChoices)
    throw invalid('prompt', `must have at most ${maxChoices} items, got ${prompt.length}`);
  const encoded: Prompt[] = [];
  for (const item of prompt) {
    encoded.push(typeof item === 'string' ? await encodePrompt(context, item, encoding) : idsPrompt(context, item));
  }
  return encoded;
}

async function read(context: ApiContext, request: ApiRequest<CompletionBody>): Promise<GenerationRequest> {
  const { body } = request;
  rejectUnsupported(body, CompletionBody.properties);
  checkBounds(body, null);
  const echo = body.echo === true;
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? null;
  if (maxTokens === 0 && !echo) throw invalid('max_tokens', 'must be at least 1, or echo must be true');
  const budget = budgetOf(context, request);
  return readRequest(context, request, {
    endpoint: 'completion',
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

/** Text and tokens, after the echoed prompt if the request asks for it. */
function withEcho(context: ApiContext, answer: Answer, index: number, text: string, tokens: readonly ChoiceToken[]) {
  if (!answer.request.echo) return { text, tokens };
  const prompt = answer.promptOf(index);
  const scored: ScoredToken[] =
    answer.request.engine.logprobs === null
      ? []
      : promptTokens(context.model.tokenizer, prompt, answer.choices[index]?.promptLogprobs ?? []);
  return { text: prompt.text + text, tokens: [...scored, ...tokens] };
}

function choice(context: ApiContext, answer: Answer, index: number, text: string, tokens: readonly ScoredToken[]) {
  const logprobs = answer.request.engine.logprobs === null ? null : completionLogprobs(context.model.tokenizer, tokens);
  return { index, text, logprobs, finish_reason: null };
}

function head(answer: Answer) {
  return {
    id: `cmpl-${answer.request.id}`,
    object: 'text_completion',
    created: answer.created,
    model: answer.request.modelName,
  };
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
  form: (context, _request, answer, send) =>
    chunkForm(
      answer,
      {
        delta({ index, text, tokens }, isFirst) {
          const all = isFirst ? withEcho(context, answer, index, text, tokens) : { text, tokens };
          return { ...head(answer), choices: [choice(context, answer, index, all.text, all.tokens)] };
        },
        finish: (index, finish_reason) => ({
          ...head(answer),
          choices: [{ index, text: '', logprobs: null, finish_reason }],
        }),
        empty: () => ({ ...head(answer), choices: [] }),
        whole: (choices) => ({
          ...head(answer),
          choices: choices.map(({ text, tokens, finishReason }, index) => {
            const all = withEcho(context, answer, index, text, tokens);
            return { ...choice(context, answer, index, all.text, all.tokens), finish_reason: finishReason };
          }),
        }),
      },
      send,
    ),
  terminator: '[DONE]',
};
