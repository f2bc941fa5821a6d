/**
 * Latency budget of a request, from its headers and their body twins.
 *
 * Knows: the names and units of the budget contract. Must not know: plans, HTTP frameworks.
 */
import type { Budget, OnMiss } from '../engine/messages.js';
import { ApiError, shown } from '../errors.js';
import type { SortieRequest } from './schemas/shared.js';

export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Nothing waits longer than a day; also keeps arithmetic on instants exact. */
const MAX_MS = 86_400_000;

/** @returns the header's text, the first where it came several times: Node.js joins them. */
export function headerText(headers: Headers, name: string): string | undefined {
  const value = headers[name.toLowerCase()];
  return Array.isArray(value) ? value[0] : value?.split(', ')[0];
}

/** @returns NaN for what is no plain number */
function numberIn(text: string): number {
  return /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : NaN;
}

/** Positive milliseconds of the first of these headers that is present. */
function milliseconds(headers: Headers, names: readonly string[]): number | null {
  for (const name of names) {
    const text = headerText(headers, name);
    if (text === undefined) continue;
    const value = numberIn(text);
    if (value > 0 && value <= MAX_MS) return value;
    const rule = `must be a number of milliseconds above 0 and at most ${MAX_MS}`;
    throw new ApiError('invalid_value', `${name} ${rule}, got ${shown(text)}.`, name);
  }
  return null;
}

/** How long a proxy waits, which may be very long: nobody asks for that. */
function proxyTimeout(headers: Headers, name: string, unit: 'milliseconds' | 'seconds'): number | null {
  const text = headerText(headers, name);
  if (text === undefined) return null;
  const value = numberIn(text) * (unit === 'seconds' ? 1000 : 1);
  if (value > 0) return Math.min(value, MAX_MS);
  throw new ApiError('invalid_value', `${name} must be a number of ${unit} above 0, got ${shown(text)}.`, name);
}

/** gRPC's own format: up to 8 digits and a unit. */
const GRPC_UNITS_MS: Readonly<Record<string, number>> = { H: 3.6e6, M: 6e4, S: 1e3, m: 1, u: 1e-3, n: 1e-6 };

function grpcTimeout(headers: Headers): number | null {
  const text = headerText(headers, 'grpc-timeout');
  if (text === undefined) return null;
  const match = /^(\d{1,8})([HMSmun])$/.exec(text);
  const value = Number(match?.[1]) * (GRPC_UNITS_MS[match?.[2] ?? ''] ?? NaN);
  if (value > 0) return Math.min(value, MAX_MS);
  throw new ApiError(
    'invalid_value',
    `grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n, above 0, got ${shown(text)}.`,
    'grpc-timeout',
  );
}

function onMiss(headers: Headers): OnMiss | null {
  const text = headerText(headers, 'X-Budget-On-Miss');
  if (text === undefined) return null;
  if (text === 'continue' || text === 'truncate' || text === 'reject') return text;
  throw new ApiError(
    'invalid_value',
    `X-Budget-On-Miss must be continue, truncate or reject, got ${shown(text)}.`,
    'X-Budget-On-Miss',
  );
}

/**
 * The budget that a request states, else the fallback, or null. The body's twin wins over a header; the time-outs of
 * proxies only lower the total, and what to do on a miss can be said alone.
 * @param fallback of requests that state neither a total nor the time of a token
 * @throws ApiError invalid_value for a malformed or non-positive value, with the header as param.
 */
export function requestBudget(
  headers: Headers,
  body: SortieRequest | undefined,
  fallback: Budget | null,
): Budget | null {
  const header = {
    total: milliseconds(headers, ['X-Latency-Budget-Ms']),
    ttft: milliseconds(headers, ['X-SLO-TTFT-Ms', 'x-llm-d-slo-ttft-ms']),
    tpot: milliseconds(headers, ['X-SLO-TPOT-Ms', 'x-llm-d-slo-tpot-ms']),
    onMiss: onMiss(headers),
  };
  const own = {
    totalMs: body?.latency_budget_ms ?? header.total,
    ttftMs: body?.slo_ttft_ms ?? header.ttft,
    tpotMs: body?.slo_tpot_ms ?? header.tpot,
  };
  const isStated = own.totalMs !== null || own.ttftMs !== null || own.tpotMs !== null;
  const stated = isStated ? own : { ...own, ...fallback };
  const bounds = [
    stated.totalMs,
    grpcTimeout(headers),
    proxyTimeout(headers, 'Request-Timeout', 'seconds'),
    proxyTimeout(headers, 'x-envoy-expected-rq-timeout-ms', 'milliseconds'),
  ].filter((bound) => bound !== null);
  const totalMs = bounds.length === 0 ? null : Math.min(...bounds);
  const { ttftMs, tpotMs } = stated;
  if (totalMs === null && ttftMs === null && tpotMs === null) return null;
  const inherited = isStated ? null : fallback?.onMiss;
  return { totalMs, ttftMs, tpotMs, onMiss: body?.budget_on_miss ?? header.onMiss ?? inherited ?? 'continue' };
}
