/** Asks everyday requests over HTTP at every exit, as a client without `max_tokens` does. */
import type { EverydayRequest } from './requests.js';

export interface Asking {
  readonly url: string;
  readonly model: string;
  readonly settings: readonly Setting[];
  /** Ids that end an answer; a pressure is their bias. */
  readonly endTokens: readonly number[];
  /** Safety cap of an answer. */
  readonly maxTokens: number;
  /** Answers to each request with each setting. */
  readonly draws: number;
  /** Further fields of each request. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Concurrent requests. */
  readonly clients: number;
}

/** An exit layer with a constant end pressure: a bias on the logits of the end tokens. */
export interface Setting {
  readonly exit: number;
  readonly pressure: number;
}

export interface Answer extends Setting {
  readonly request: EverydayRequest;
  readonly text: string;
  readonly tokens: number;
  /** Whether the answer ended by itself, below the cap. */
  readonly isComplete: boolean;
}

interface Body {
  readonly choices: readonly { readonly finish_reason: string; readonly message: { readonly content: string } }[];
  readonly usage: { readonly completion_tokens: number };
}

/** The bias of a pressure as a field of a request; no field for pressure 0. */
export function pressed(endTokens: readonly number[], pressure: number): Record<string, unknown> {
  if (pressure === 0) return {};
  return { logit_bias: Object.fromEntries(endTokens.map((token) => [String(token), pressure])) };
}

/**
 * Asks every request with every setting, with the seeds 0 to draws - 1.
 * @param progress called after each answer with the number of answers, and the number of all
 * @throws Error that names the status if the server rejects a request
 */
export async function askAll(
  requests: readonly EverydayRequest[],
  asking: Asking,
  progress: (done: number, all: number) => void,
): Promise<Answer[]> {
  const jobs = asking.settings.flatMap((setting) =>
    requests.flatMap((request) => Array.from({ length: asking.draws }, (_, seed) => ({ request, setting, seed }))),
  );
  const answers: Answer[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: asking.clients }, async () => {
      for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
        answers.push(await ask(job, asking));
        progress(answers.length, jobs.length);
      }
    }),
  );
  return answers;
}

async function ask(
  { request, setting, seed }: { readonly request: EverydayRequest; readonly setting: Setting; readonly seed: number },
  { url, model, endTokens, maxTokens, fields }: Asking,
): Promise<Answer> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-exit-layer': String(setting.exit) },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: request.request }],
      max_tokens: maxTokens,
      seed,
      ...pressed(endTokens, setting.pressure),
      ...fields,
    }),
  });
  if (response.status !== 200) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  const { choices, usage } = (await response.json()) as Body;
  const [choice] = choices;
  if (choice === undefined) throw new Error('the server answered without a choice');
  const isComplete = choice.finish_reason === 'stop';
  return { ...setting, request, text: choice.message.content, tokens: usage.completion_tokens, isComplete };
}
