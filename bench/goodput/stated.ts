/** Jobs of stated length: lengths of a trace, prompts of random tokens, and answers of exactly `max_tokens`. */
import type { Architecture } from '../../src/model/architecture.js';
import type { TraceEntry } from '../../src/load/trace.js';
import { type BudgetClass, classesFor, requestsOf } from '../../src/simulate/workload.js';
import { ask } from '../../src/load/ask.js';
import { serverAt } from '../../src/remote/server.js';
import { seeded } from '../../src/util/random.js';
import { median } from '../../src/util/stats.js';
import { exactly } from './asked.js';
import type { Job } from './job.js';

/** Longest sequence of a job in tokens. */
const LONGEST_TOKENS = 1000;

/** Random token ids: no two requests share a prefix that could be reused. */
function promptOf(length: number, random: () => number, vocabulary: number): number[] {
  return Array.from({ length }, () => 100 + Math.floor(random() * (vocabulary - 200)));
}

/** The same jobs for every side: lengths and classes of the trace, random prompts. @param scale factor on lengths */
export function statedJobs(
  trace: readonly TraceEntry[],
  classes: readonly BudgetClass[],
  { vocab, context }: Architecture,
  { limit, scale, seed }: { readonly limit: number; readonly scale: number; readonly seed: number },
): Job[] {
  const scaled = { speed: 1, length: scale, limit, maxLength: Math.min(LONGEST_TOKENS, context) };
  const random = seeded(seed + 1);
  return requestsOf(trace, classes, scaled, seeded(seed), 1, 'stated').map(
    ({ id, budgetClass, budget, promptLength, maxTokens }) => ({
      id,
      budgetClass,
      budgetMs: budget?.totalMs ?? Infinity,
      tokens: maxTokens,
      isExact: true,
      asked: exactly(promptOf(promptLength, random, vocab), maxTokens),
    }),
  );
}

/** Budget classes from the times of full depth on this machine while it is idle. @throws Error if no tokens arrive */
export async function idleClasses(
  url: string,
  model: string,
  deepest: number,
  { vocab, context }: Architecture,
): Promise<BudgetClass[]> {
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let i = 0; i < 7; i++) {
    const prompt = promptOf(Math.min(256, context >> 1), seeded(100 + i), vocab);
    const answer = await ask(serverAt(url, null), model, exactly(prompt, 48), {
      headers: { 'x-exit-layer': String(deepest) },
    });
    const { ttftMs, totalMs, tokens, error } = answer;
    if (ttftMs === null || tokens < 2) throw new Error(error?.message ?? 'the server answered without tokens');
    prefill.push(ttftMs / prompt.length);
    decode.push((totalMs - ttftMs) / (tokens - 1));
  }
  console.error(
    `idle, full depth: ${median(prefill).toFixed(3)} ms per prompt token, ${median(decode).toFixed(2)} per token`,
  );
  return classesFor(median(prefill), median(decode));
}
