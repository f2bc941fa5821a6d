/** Whole answers of a running Sortie to chat questions at given exits. */
import { post } from './post.js';
import { startSortie, withServer } from './server.js';

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
 * Starts a server, and asks it all jobs in order, with so many clients that never pause. Logs every hundredth answer.
 * @param dir the model folder
 * @returns answers in the order of their ends
 * @throws Error that names the status if the server rejects a request
 */
export function askAll<Job extends ChatJob>(
  dir: string,
  model: string,
  { threads, slots }: { readonly threads: number; readonly slots: number },
  jobs: readonly Job[],
): Promise<ChatAnswer<Job>[]> {
  const options = ['--threads', String(threads), '--max-running', String(slots)];
  return withServer(startSortie(dir, options), ({ url }) => asked(url, model, slots, jobs));
}

async function asked<Job extends ChatJob>(
  url: string,
  model: string,
  clients: number,
  jobs: readonly Job[],
): Promise<ChatAnswer<Job>[]> {
  const answers: ChatAnswer<Job>[] = [];
  let next = 0;
  const client = async (): Promise<void> => {
    for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
      const messages = [{ role: 'user', content: job.content }];
      const headers = { 'x-exit-layer': String(job.exit) };
      const response = await post(`${url}/v1/chat/completions`, { model, messages, ...job.fields }, { headers });
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
