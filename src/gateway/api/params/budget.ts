/**
 * The latency budget of a request, from its headers and the equivalent body fields.
 *
 * Must not know: plans, HTTP frameworks.
 */
import type { Budget, OnMiss } from '../../../protocol/index.js';
import type { DefaultBudget, RequestPolicy } from '../context.js';
import { agreed, ASKED, type Headers, headerValues, least } from '../schemas/headers.js';
import type { SortieRequest } from '../schemas/shared.js';

/** One day: the longest wait. The bound also keeps arithmetic on instants exact. */
const MAX_MS = 86_400_000;

/** A total as the default of requests that state no budget. @param totalMs null: they have none */
export function totalBudget(totalMs: number | null): DefaultBudget | null {
  return totalMs === null ? null : { totalMs, ttftMs: null, tpotMs: null, onMiss: null };
}

/** @returns NaN for a text that is not a plain number */
function numberIn(text: string): number {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
}

/**
 * The smallest value of a header, or null without the header. @param read returns NaN for a text that breaks the rule
 */
function leastOf(headers: Headers, name: string, rule: string, read: (text: string) => number): number | null {
  const positive = (text: string): number | undefined => {
    const value = read(text);
    return value > 0 ? value : undefined;
  };
  return least(headerValues(headers, name, rule, positive));
}

/** The smallest value of these headers, which are names for one time. */
function milliseconds(headers: Headers, ...names: readonly string[]): number | null {
  const rule = `a number of milliseconds above 0 and at most ${MAX_MS}`;
  const read = (text: string): number => {
    const value = numberIn(text);
    return value <= MAX_MS ? value : NaN;
  };
  return least(names.map((name) => leastOf(headers, name, rule, read)));
}

/** The time-out of a proxy or router, which may be longer than any budget. */
function proxyTimeout(headers: Headers, name: string, unit: 'milliseconds' | 'seconds'): number | null {
  const rule = `a number of ${unit} above 0`;
  return leastOf(headers, name, rule, (text) => Math.min(numberIn(text) * (unit === 'seconds' ? 1000 : 1), MAX_MS));
}

/** The last part of Envoy's time-out is for the way back: at the time-out itself, Envoy ends the request with a 504. */
const RETURN_SHARE = 0.05;
const MOST_RETURN_MS = 250;

function envoyTimeout(headers: Headers): number | null {
  const ms = proxyTimeout(headers, 'x-envoy-expected-rq-timeout-ms', 'milliseconds');
  return ms === null ? null : ms - Math.min(MOST_RETURN_MS, RETURN_SHARE * ms);
}

/** gRPC's own format: up to 8 digits and a unit. */
const GRPC_UNITS_MS: Readonly<Record<string, number>> = { H: 3.6e6, M: 6e4, S: 1e3, m: 1, u: 1e-3, n: 1e-6 };

function grpcTimeout(headers: Headers): number | null {
  return leastOf(headers, 'grpc-timeout', '1 to 8 digits and one of H, M, S, m, u, n, above 0', (text) => {
    const match = /^(\d{1,8})([HMSmun])$/.exec(text);
    return Math.min(Number(match?.[1]) * (GRPC_UNITS_MS[match?.[2] ?? ''] ?? NaN), MAX_MS);
  });
}

const ON_MISS: readonly OnMiss[] = ['land', 'continue', 'truncate', 'reject'];

function onMiss(headers: Headers): OnMiss | null {
  const read = (text: string): OnMiss | undefined => ON_MISS.find((each) => each === text);
  const values = headerValues(headers, ASKED.onMiss, 'land, continue, truncate or reject', read);
  return agreed(ASKED.onMiss, values);
}

/**
 * The budget that a request states, else the fallback, or null. A body field wins over its header. Of several header
 * values the smallest counts. Deadlines of proxies and routers only lower a budget. A request may state the action on a
 * miss alone.
 * Without a total no instant tells an answer to land, so `land` is then `continue`.
 * @param policy its default budget is that of requests that state neither a total, a TTFT nor a TPOT
 * @param waitedMs of the request at proxies. Budgets count from its arrival there, but Envoy and gRPC lower their
 * time-outs by this time at every attempt.
 * @throws ApiError invalid_value for a malformed or non-positive value, with the header as param
 */
export function requestBudget(
  headers: Headers,
  body: SortieRequest | undefined,
  { defaultBudget: fallback, onMiss: byPolicy }: Pick<RequestPolicy, 'defaultBudget' | 'onMiss'>,
  waitedMs = 0,
): Budget | null {
  const header = {
    total: milliseconds(headers, ASKED.budget),
    ttft: milliseconds(headers, ASKED.ttft, 'x-llm-d-slo-ttft-ms'),
    tpot: milliseconds(headers, ASKED.tpot, 'x-llm-d-slo-tpot-ms'),
    onMiss: onMiss(headers),
  };
  const own = {
    totalMs: body?.latency_budget_ms ?? header.total,
    ttftMs: body?.slo_ttft_ms ?? header.ttft,
    tpotMs: body?.slo_tpot_ms ?? header.tpot,
  };
  const isStated = own.totalMs !== null || own.ttftMs !== null || own.tpotMs !== null;
  const stated = isStated ? own : { ...own, ...fallback };
  const here = least([grpcTimeout(headers), envoyTimeout(headers)]);
  const totalMs = least([
    stated.totalMs,
    proxyTimeout(headers, 'Request-Timeout', 'seconds'),
    here === null ? null : Math.min(MAX_MS, here + waitedMs),
    proxyTimeout(headers, 'x-request-ttl-ms', 'milliseconds'),
  ]);
  const ttftMs = least([stated.ttftMs, proxyTimeout(headers, 'x-dynamo-slo-ttft-ms', 'milliseconds')]);
  const { tpotMs } = stated;
  if (totalMs === null && ttftMs === null && tpotMs === null) return null;
  const inherited = isStated ? null : fallback?.onMiss;
  const action = body?.budget_on_miss ?? header.onMiss ?? inherited ?? byPolicy ?? 'land';
  return { totalMs, ttftMs, tpotMs, onMiss: action === 'land' && totalMs === null ? 'continue' : action };
}
