/** Asks questions over HTTP at every exit, greedily and sampled, and counts the tokens of the answers. */

/** The length of one answer. */
export interface Length {
  readonly tokens: number;
  /** Whether the answer reached the cap, instead of its own end. */
  readonly isCut: boolean;
}

/** Lengths of the answers to one question, by exit layer. */
export type LengthsByExit = Readonly<Record<string, Length>>;

export interface QuestionLengths {
  /** Tokens of the prompt, chat template included. */
  readonly promptTokens: number;
  readonly greedy: LengthsByExit;
  readonly sampled: LengthsByExit;
}

export interface Asking {
  readonly url: string;
  readonly model: string;
  /** Exit layers; each answers every question twice. */
  readonly exits: readonly number[];
  /** Most tokens of an answer. */
  readonly cap: number;
  /** Question i is sampled as the model folder says, with seed + i. */
  readonly seed: number;
  /** Concurrent requests. */
  readonly clients: number;
}

interface Job {
  readonly question: number;
  readonly exit: number;
  readonly seed: number | null;
}

interface Body {
  readonly choices: readonly { readonly finish_reason: string }[];
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
}

/**
 * Asks all questions, exit by exit.
 * @param progress called after each answer with the number of answers, and the number of all
 * @throws Error that names the status if the server rejects a request
 */
export async function askAll(
  questions: readonly string[],
  asking: Asking,
  progress: (done: number, all: number) => void,
): Promise<QuestionLengths[]> {
  const jobs = asking.exits.flatMap((exit) =>
    [false, true].flatMap((isSampled) =>
      questions.map((_, question): Job => ({ question, exit, seed: isSampled ? asking.seed + question : null })),
    ),
  );
  const found = questions.map((): Mutable => ({ promptTokens: 0, greedy: {}, sampled: {} }));
  let next = 0;
  let done = 0;
  await Promise.all(
    Array.from({ length: asking.clients }, async () => {
      for (let job = jobs[next++]; job !== undefined; job = jobs[next++]) {
        const { choices, usage } = await ask(questions[job.question] ?? '', job, asking);
        const into = found[job.question];
        if (into === undefined) return;
        into.promptTokens = usage.prompt_tokens;
        const length = { tokens: usage.completion_tokens, isCut: choices[0]?.finish_reason === 'length' };
        (job.seed === null ? into.greedy : into.sampled)[job.exit] = length;
        progress(++done, jobs.length);
      }
    }),
  );
  return found;
}

interface Mutable {
  promptTokens: number;
  readonly greedy: Record<string, Length>;
  readonly sampled: Record<string, Length>;
}

async function ask(content: string, { exit, seed }: Job, { url, model, cap }: Asking): Promise<Body> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-exit-layer': String(exit) },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content }],
      max_tokens: cap,
      ...(seed === null ? { temperature: 0 } : { seed }),
    }),
  });
  if (response.status !== 200) throw new Error(`the server answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Body;
}
