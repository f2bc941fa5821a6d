/** POST /v1/completions: from a valid body to an answer. */
import { invalid } from '../errors.js';
import type { Answer } from '../generation/answer.js';
import type { ChoiceToken } from '../generation/choice.js';
import { chunkForm } from '../generation/chunks.js';
import { readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import { completionLogprobs, promptTokens, type ScoredToken } from '../generation/logprobs.js';
import { encodePrompt, waitLimitOf, type Prompt, type WaitLimit } from '../generation/prompt.js';
import { budgetOf, readRequest, type GenerationRequest } from '../generation/read-request.js';
import type { Endpoint } from '../generation/serve.js';
import { answerGrammar } from '../params/structured-outputs.js';
import { checkBounds } from '../params/thoughts.js';
import { rejectUnsupported } from '../params/unsupported.js';
import { checkIds } from '../params/value-limits.js';
import { CompletionBody } from '../schemas/completions.js';

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

const ID_PREFIX = 'cmpl-';

function head(answer: Answer) {
  return {
    id: ID_PREFIX + answer.request.id,
    object: 'text_completion',
    created: answer.created,
    model: answer.request.modelName,
  };
}

export const completions: Endpoint<CompletionBody> = {
  idPrefix: ID_PREFIX,
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
