/** The requests that may have a net, and the faults that start one. Pure. */
import type { ApiError } from '../api/errors.js';
import { isGuided, isList, type PlainAnswer, type UpstreamCall } from './call.js';

/** Why a request has no net, as the header says it. */
export type NoNet =
  | 'off'
  | 'no_model'
  | 'on_miss'
  | 'functions'
  | 'grammar'
  | 'unsupported'
  | 'context'
  | 'budget'
  | 'capacity'
  | 'not_ready'
  | 'not_forecast';

/** Why no net can stand in for an answer of this form; null if one can. */
export function barOf({ request: { body } }: UpstreamCall): NoNet | null {
  if (isList(body.functions)) return 'functions';
  return isGuided(body) ? 'grammar' : null;
}

/** Why the local model can't answer a body. @param error of its checks */
export const barOfError = ({ code }: ApiError): NoNet =>
  code === 'context_length_exceeded' ? 'context' : code === 'loading' ? 'not_ready' : 'unsupported';

/**
 * Milliseconds that an answer asks its client to wait; null if it names none that can be read.
 * @param date the present, ms since 1970
 */
function waitOf({ headers }: PlainAnswer, date: number): number | null {
  const { 'retry-after-ms': ms, 'retry-after': after } = headers;
  if (ms !== undefined && /^\d+(\.\d+)?$/.test(ms)) return Number(ms);
  if (after === undefined) return null;
  const wait = /^\d+(\.\d+)?$/.test(after) ? Number(after) * 1000 : Date.parse(after) - date;
  return Number.isNaN(wait) ? null : Math.max(0, wait);
}

/**
 * Whether a net answers in place of this response: a failure of the server, or a limit beyond the net's latest start.
 * An answer that refuses the request passes on.
 * @param roomMs until the latest start
 * @param date the present, ms since 1970
 */
export function isNetted(answer: PlainAnswer, roomMs: number, date: number): boolean {
  if (answer.status >= 500) return true;
  if (answer.status !== 429) return false;
  const wait = waitOf(answer, date);
  return wait === null || wait > roomMs;
}
