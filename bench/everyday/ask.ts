/** Asks everyday requests over HTTP at every exit, as a client without sampling fields does. */
import type { EverydayRequest } from './requests.js';

export interface Asking {
  readonly url: string;
  readonly model: string;
  readonly exits: readonly number[];
  readonly maxTokens: number;
  /** Answers to each request at each exit. */
  readonly draws: number;
  /** Further fields of each request; none for the defaults as served. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** Concurrent requests. */
  readonly clients: number;
}

export interface Answer {
  readonly request: EverydayRequest;
  readonly exit: number;
  readonly text: string;
  /** Whether the answer ended by itself, below the limit. */
  readonly isComplete: boolean;
}

interface Body {
  readonly choices: readonly { readonly finish_reason: string; readonly message: { readonly content: string } }[];
}

/**
 * Asks every request at every exit, with the seeds 0 to draws - 1.
 * @throws Error that names the status if the server rejects a request
 */
export async function askAll(requests: readonly EverydayRequest[], asking: Asking): Promise<Answer[]> {
  const jobs = asking.exits.flatMap((exit) =>
    requests.flatMap((request) => Array.from({ length: asking.draws }, (_, seed) => ({ request, exit, seed }))),
  );
  const answers: Answer[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: asking.clients }, async () => {
      for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) answers.push(await ask(job, asking));
    }),
  );
  return answers;
}

async function ask(
  { request, exit, seed }: { readonly request: EverydayRequest; readonly exit: number; readonly seed: number },
  { url, model, maxTokens, fields }: Asking,
): Promise<Answer> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-exit-layer': String(exit) },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: request.request }],
      max_tokens: maxTokens,
      seed,
      ...fields,
    }),
  });
  if (response.status !== 200) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  const [choice] = ((await response.json()) as Body).choices;
  if (choice === undefined) throw new Error('the server answered without a choice');
  return { request, exit, text: choice.message.content, isComplete: choice.finish_reason === 'stop' };
}
