/**
 * The latency budget of a request, from its headers and the equivalent body fields.
 *
 * Must not know: plans, HTTP frameworks.
 */
import type { Budget } from '../../../protocol/index.js';
import type { DefaultBudget, RequestPolicy } from '../context.js';
import { ASKED, type Headers, headerValues, headerWord } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';

/** One day: the longest wait. The bound also keeps arithmetic on instants exact. */
export const MAX_MS = 86_400_000;

/** A total as the default of requests that state no budget. @param totalMs null: they have none */
export function totalBudget(totalMs: number | null): DefaultBudget | null {
  return totalMs === null ? null : { totalMs, ttftMs: null, tpotMs: null, onMiss: null };
}

/** The smallest value of a header, or null without the header. @param most the largest value that the rule allows */
function milliseconds(headers: Headers, name: string, most: number): number | null {
  const rule = `a number of milliseconds above 0${most === Infinity ? '' : ` and at most ${most}`}`;
  const values = headerValues(headers, name, rule, (text) => {
    const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
    return value > 0 && value <= most ? value : undefined;
  });
  return values.length === 0 ? null : Math.min(...values);
}

/** The last part of Envoy's time-out is for the way back: at the time-out itself, Envoy ends the request with a 504. */
const RETURN_SHARE = 0.05;
const MOST_RETURN_MS = 250;

/** Envoy's time-out, from the arrival at Envoy. It may be longer than any budget. */
function envoyMs(headers: Headers, waitedMs: number): number | null {
  const stated = milliseconds(headers, ASKED.envoy, Infinity);
  if (stated === null) return null;
  const ms = Math.min(MAX_MS, stated);
  return Math.min(MAX_MS, ms - Math.min(MOST_RETURN_MS, RETURN_SHARE * ms) + waitedMs);
}

/**
 * The budget that a request states, else the fallback, or null. A body field wins over its header. Of several header
 * values the smallest counts. Envoy's time-out only lowers a budget. A request may state the action on a miss alone.
 * Without a total no instant tells an answer to land, so `land` is then `continue`.
 * @param policy its default budget is that of requests that state neither any part of a budget
 * @param waitedMs of the request at proxies. Budgets count from its arrival there, but Envoy lowers its time-out by
 * this time at every attempt.
 * @throws ApiError invalid_value for a malformed or non-positive value, with the header as param
 */
export function requestBudget(
  headers: Headers,
  body: SortieRequest | undefined,
  { defaultBudget: fallback, onMiss: byPolicy }: Pick<RequestPolicy, 'defaultBudget' | 'onMiss'>,
  waitedMs = 0,
): Budget | null {
  const header = {
    totalMs: milliseconds(headers, ASKED.budget, MAX_MS),
    ttftMs: milliseconds(headers, ASKED.ttft, MAX_MS),
    tpotMs: milliseconds(headers, ASKED.tpot, MAX_MS),
    sentenceMs: milliseconds(headers, ASKED.sentence, MAX_MS),
    onMiss: headerWord(headers, ASKED.onMiss, ['land', 'continue', 'truncate', 'reject']),
  };
  const own = {
    totalMs: body?.latency_budget_ms ?? header.totalMs,
    ttftMs: body?.slo_ttft_ms ?? header.ttftMs,
    tpotMs: body?.slo_tpot_ms ?? header.tpotMs,
    sentenceMs: body?.first_sentence_ms ?? header.sentenceMs,
  };
  const isStated = Object.values(own).some((ms) => ms !== null);
  const { totalMs: total, ttftMs, tpotMs, sentenceMs } = isStated ? own : { ...own, ...fallback };
  const byEnvoy = envoyMs(headers, waitedMs);
  const totalMs = byEnvoy === null ? total : Math.min(byEnvoy, total ?? Infinity);
  if ([totalMs, ttftMs, tpotMs, sentenceMs].every((ms) => ms === null)) return null;
  const inherited = isStated ? null : fallback?.onMiss;
  const action = body?.budget_on_miss ?? header.onMiss ?? inherited ?? byPolicy ?? 'land';
  const onMiss = action === 'land' && totalMs === null ? 'continue' : action;
  return { totalMs, ttftMs, tpotMs, onMiss, ...(sentenceMs !== null && { sentenceMs }) };
}
