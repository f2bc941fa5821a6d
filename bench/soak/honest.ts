/** A client with budgets: it asks, judges its promises, and follows a rejection once. */
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicMs } from '../../src/util/clock.js';
import { post, reasonOf } from '../post.js';

/** Budgets of clients, taken in turn. */
export const BUDGETS_MS = [4000, 8000, 16_000];

export interface Honest {
  readonly url: string;
  /** API key; null for a server without keys. */
  readonly key: string | null;
  /** Budgets in ms, taken in turn. */
  readonly budgets: readonly number[];
  /** Fields of each request beside the prompt. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Pause between two requests in ms. */
  readonly pauseMs: number;
  /** Time in ms that each process of the server has waited for a core, on a machine with other work. */
  readonly waitedMs: () => readonly number[];
}

/** Outcomes of the requests of all clients. */
export interface Tally {
  asked: number;
  /** Answers with the class `guaranteed`. */
  promised: number;
  kept: number;
  /** Late, and in time without the server's waits for a core. */
  starved: number;
  /** Neither an answer nor a rejection. */
  lost: number;
  /** Rejections that name a budget. The client repeats each at once, with that budget. */
  rejected: number;
  /** Rejections without a budget: an older promise has no time left for another row. */
  unnamed: number;
  /** Requests that the first repetition got accepted. */
  followed: number;
  followedKept: number;
  /** Chains of repetitions without an end. */
  never: number;
  /** Times of all answers in ms, as the clients measured them. */
  readonly times: number[];
  /** Reasons of lost requests and broken promises, for the log. */
  readonly faults: string[];
}

export function newTally(): Tally {
  const counts = { asked: 0, promised: 0, kept: 0, starved: 0, lost: 0, rejected: 0, unnamed: 0 };
  return { ...counts, followed: 0, followedKept: 0, never: 0, times: [], faults: [] };
}

interface Answer {
  readonly sortie?: {
    readonly plan: { readonly service_class: string };
    readonly met: boolean | null;
    readonly actual_ms: number | null;
  };
  readonly error?: { readonly code: string; readonly least_feasible_budget_ms?: number | null };
}

/** Asks until the signal aborts; the last request is awaited. Every other request rejects a late answer. */
export async function ask(client: Honest, tally: Tally, signal: AbortSignal): Promise<void> {
  for (let index = 0; !signal.aborted; index++)
    await askOnce(client, client.budgets[index % client.budgets.length] ?? 1000, index % 2 === 0, tally);
}

/**
 * Is the least budget true that a rejection names? A client asks for the impossible until so many rejections have named
 * a budget, and follows each, beside four others.
 * @param client without its budgets
 */
export async function followRejections(client: Omit<Honest, 'budgets'>, count: number): Promise<Tally> {
  const over = new AbortController();
  const beside = { ...client, body: { max_tokens: 32 }, budgets: BUDGETS_MS, pauseMs: 500 };
  const others = Array.from({ length: 4 }, () => ask(beside, newTally(), over.signal));
  const tally = newTally();
  while (tally.rejected < count) await askOnce({ ...client, budgets: [] }, 1, true, tally);
  over.abort();
  await Promise.all(others);
  return tally;
}

async function askOnce(client: Honest, budget: number, rejects: boolean, tally: Tally): Promise<void> {
  const end = await one(client, budget, rejects, tally);
  if (typeof end === 'number') await follow(client, end, tally);
  await sleep(client.pauseMs);
}

/** Most repetitions of a request that is rejected again and again. */
const CHAIN = 8;

/** Repeats a rejected request at once, with the budget that the rejection names. */
async function follow(client: Honest, budget: number, tally: Tally): Promise<void> {
  tally.rejected++;
  let named = budget;
  for (let step = 0; step < CHAIN; step++) {
    const end = await one(client, named, true, tally);
    if (typeof end !== 'number') {
      if (step === 0 && end !== 'unnamed') tally.followed++;
      if (step === 0 && end === 'kept') tally.followedKept++;
      return;
    }
    tally.faults.push(`named ${named} ms, then ${end} ms`);
    named = end;
  }
  tally.never++;
}

/** @returns the budget that a rejection names, or what became of the request */
async function one(
  client: Honest,
  budget: number,
  rejects: boolean,
  tally: Tally,
): Promise<number | 'kept' | 'starved' | 'broken' | 'unpromised' | 'unnamed' | 'lost'> {
  tally.asked++;
  const [start, waitedBefore] = [monotonicMs(), client.waitedMs()];
  try {
    const headers = { 'x-latency-budget-ms': String(budget), ...(rejects && { 'x-budget-on-miss': 'reject' }) };
    const body = { prompt: `Question ${tally.asked}: name a river.`, ...client.body };
    const response = await post(`${client.url}/v1/completions`, body, { key: client.key, headers });
    const { sortie, error } = (await response.json()) as Answer;
    const took = monotonicMs() - start;
    if (error?.code === 'budget_infeasible') {
      if (typeof error.least_feasible_budget_ms === 'number') return error.least_feasible_budget_ms;
      tally.unnamed++;
      return 'unnamed';
    }
    if (response.status !== 200 || sortie === undefined) {
      tally.lost++;
      tally.faults.push(`${response.status} ${JSON.stringify(error)} after ${took.toFixed(0)} ms`);
      return 'lost';
    }
    tally.times.push(took);
    if (sortie.plan.service_class !== 'guaranteed') return 'unpromised';
    tally.promised++;
    // Two processes may wait at the same time, so only the longer wait counts.
    const waited = Math.max(...client.waitedMs().map((ms, i) => ms - (waitedBefore[i] ?? 0)));
    if (sortie.met === true) {
      tally.kept++;
      return 'kept';
    }
    tally.faults.push(
      `promised ${budget} ms, took ${took.toFixed(0)}, ${waited.toFixed(0)} of them without a core: ${JSON.stringify(sortie)}`,
    );
    if ((sortie.actual_ms ?? Infinity) - waited > budget) return 'broken';
    tally.starved++;
    return 'starved';
  } catch (error) {
    tally.lost++;
    tally.faults.push(reasonOf(error));
    return 'lost';
  }
}
