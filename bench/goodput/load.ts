/**
 * Open-loop load: requests leave when their time has come, whether or not earlier ones are answered.
 *
 * Knows: arrival processes, one client. Must not know: which server answers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import { type Answered, complete } from './client.js';

export type Arrivals = 'poisson' | 'bursty';

/** Requests that come together in a burst; bursts are a Poisson process of their own at the same mean rate. */
const BURST = 8;

export interface Sent {
  readonly request: SimulatedRequest;
  readonly answer: Answered;
}

/** Instants of arrival, ms from the start, at a mean of `perSecond`. */
export function arrivalTimes(count: number, perSecond: number, arrivals: Arrivals, random: () => number): number[] {
  const burst = arrivals === 'bursty' ? BURST : 1;
  let at = 0;
  return Array.from({ length: count }, (_, i) => {
    if (i % burst === 0) at += (-Math.log(1 - random()) * 1000 * burst) / perSecond;
    return at;
  });
}

/** Token ids that no two requests share, so that prefix reuse has nothing to find. */
export function promptOf(length: number, random: () => number, vocabulary: number): number[] {
  return Array.from({ length }, () => 100 + Math.floor(random() * (vocabulary - 200)));
}

/** Sends every request at its arrival and waits for all answers. */
export async function openLoop(
  url: string,
  model: string,
  requests: readonly SimulatedRequest[],
  prompts: readonly (readonly number[])[],
  headers: (budgetMs: number) => Record<string, string>,
): Promise<Sent[]> {
  const start = performance.now();
  const sent: Promise<Sent>[] = [];
  for (const [i, request] of requests.entries()) {
    const wait = request.arrivedAt - (performance.now() - start);
    if (wait > 1) await sleep(wait);
    const asked = {
      prompt: prompts[i] ?? [],
      maxTokens: request.maxTokens,
      headers: headers(request.budget?.totalMs ?? 0),
    };
    sent.push(complete(url, model, asked).then((answer) => ({ request, answer })));
  }
  return Promise.all(sent);
}

/** Requests per second that a server completes with so many clients that never pause: its capacity. */
export async function closedLoop(
  url: string,
  model: string,
  requests: readonly SimulatedRequest[],
  prompts: readonly (readonly number[])[],
  clients: number,
  headers: Record<string, string>,
): Promise<number> {
  const start = performance.now();
  let next = 0;
  let done = 0;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      for (let i = next++; i < requests.length; i = next++) {
        const request = requests[i];
        if (request === undefined) return;
        const asked = { prompt: prompts[i] ?? [], maxTokens: request.maxTokens, headers };
        const { status } = await complete(url, model, asked);
        if (status === 200) done += 1;
      }
    }),
  );
  return done / ((performance.now() - start) / 1000);
}
