/** The faults that end an answer of an upstream under a budget. Must not know: connections. */
import { ApiError } from '../api/errors.js';
import type { PlainAnswer } from './call.js';
import type { NetTrigger } from './net-policy.js';

/** An upstream that gives no more: with an error, or a response that is one. */
export interface Failed {
  readonly trigger: NetTrigger;
  readonly failure: Error | PlainAnswer;
}

/** The reason with which the request to an upstream ends that the local model has answered. */
export class LocalAnswers extends Error {
  override readonly name = 'LocalAnswers';
}

/** The end of an answer that has no whole sentence at its deadline. */
export function late(): ApiError {
  return new ApiError('deadline_exceeded', 'The upstream model had no whole sentence within the latency budget.');
}

/** The fault of an upstream that is not asked. */
export function failedOften(): ApiError {
  return new ApiError('upstream_failed', 'The upstream failed several times in a row.');
}
