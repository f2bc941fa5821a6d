/** A client with budgets: it asks, judges its promises, and repeats a rejection at once with the budget that it names. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { post } from '../support/post.js';
import { reasonOf } from './helper.js';
import { monotonicMs } from '../../src/util/clock.js';

const PAUSE_MS = 20;
const BODY = { max_tokens: 4 };

export interface Honest {
  readonly url: string;
  readonly key: string;
  readonly budgetMs: number;
  /** The processes of the server. */
  readonly pids: readonly number[];
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
  /** Reasons of lost requests and broken promises, for the log. */
  readonly faults: string[];
}

interface Answer {
  readonly sortie?: {
    readonly plan: { readonly service_class: string };
    readonly met?: boolean;
    readonly actual_ms: number;
  };
  readonly error?: { readonly code: string; readonly least_feasible_budget_ms?: number | null };
}

/** Asks until the signal aborts; the last request is awaited. Every other request rejects a late answer. */
export async function ask(client: Honest, tally: Tally, signal: AbortSignal): Promise<void> {
  for (let index = 0; !signal.aborted; index++) {
    const named = await one(client, client.budgetMs, index % 2 === 0, tally);
    if (named !== null) await one(client, named, true, tally);
    await sleep(PAUSE_MS);
  }
}

/** @returns the budget that a rejection names; null for another end */
async function one({ url, key, pids }: Honest, budget: number, rejects: boolean, tally: Tally): Promise<number | null> {
  tally.asked++;
  const waitedBefore = pids.map(waitedMs);
  try {
    const headers = { 'x-latency-budget-ms': String(budget), ...(rejects && { 'x-budget-on-miss': 'reject' }) };
    const body = { prompt: `Question ${tally.asked}: name a river.`, ...BODY };
    const start = monotonicMs();
    const response = await post(`${url}/v1/completions`, body, { authorization: `Bearer ${key}`, ...headers });
    const { sortie, error } = (await response.json()) as Answer;
    const took = (monotonicMs() - start).toFixed(0);
    if (error?.code === 'budget_infeasible') return error.least_feasible_budget_ms ?? null;
    if (response.status !== 200 || sortie === undefined)
      throw new Error(`${response.status} ${JSON.stringify(error)} after ${took} ms`);
    if (sortie.plan.service_class !== 'guaranteed') return null;
    tally.promised++;
    // Two processes may wait at the same time, so only the longer wait counts.
    const waited = Math.max(...pids.map((pid, i) => waitedMs(pid) - (waitedBefore[i] ?? 0)));
    if (sortie.met === true) tally.kept++;
    else {
      if (sortie.actual_ms - waited <= budget) tally.starved++;
      tally.faults.push(`promised ${budget} ms, took ${took}, ${waited.toFixed(0)} of them without a core`);
    }
  } catch (error) {
    tally.lost++;
    tally.faults.push(reasonOf(error));
  }
  return null;
}

/**
 * Time in ms that the main thread of a process has waited for a core while it could run. On a machine with other work, a
 * part of each answer's time. 0 for a process that has ended.
 */
function waitedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}
