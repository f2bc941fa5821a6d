/** Whole answers of a running Sortie to chat questions at given exits. */

export interface ChatJob {
  readonly exit: number;
  readonly content: string;
  /** Further fields of the request, such as `max_tokens`. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface ChatAnswer<Job extends ChatJob> {
  readonly job: Job;
  readonly text: string;
  readonly tokens: number;
  /** Whether the answer reached a limit, instead of its own end. */
  readonly isCut: boolean;
}

interface Body {
  readonly choices: readonly [{ readonly finish_reason: string; readonly message: { readonly content: string } }];
  readonly usage: { readonly completion_tokens: number };
}

/**
 * Asks all jobs in order, with so many clients that never pause. Logs every hundredth answer.
 * @returns answers in the order of their ends
 * @throws Error that names the status if the server rejects a request
 */
export async function askAll<Job extends ChatJob>(
  { url, model, clients }: { readonly url: string; readonly model: string; readonly clients: number },
  jobs: readonly Job[],
): Promise<ChatAnswer<Job>[]> {
  const answers: ChatAnswer<Job>[] = [];
  let next = 0;
  const client = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      const messages = [{ role: 'user', content: job.content }];
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-exit-layer': String(job.exit) },
        body: JSON.stringify({ model, messages, ...job.fields }),
      });
      if (response.status !== 200) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
      const { choices, usage } = (await response.json()) as Body;
      const [{ finish_reason, message }] = choices;
      const isCut = finish_reason === 'length';
      if (answers.push({ job, text: message.content, tokens: usage.completion_tokens, isCut }) % 100 === 0)
        console.error(`${answers.length} of ${jobs.length} answers`);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return answers;
}
