/** The report of an answer under a budget. Must not know: connections. */
import { monotonicMs } from '../../util/clock.js';
import { present } from '../../util/present.js';
import type { FirstDue } from './deadline.js';
import type { Landed } from './landed.js';
import type { Net } from './net.js';
import { ApiError } from '../api/errors.js';
import type { PlainAnswer } from './call.js';
import type { NetTrigger } from './net-policy.js';

interface Facts {
  readonly side: 'upstream' | 'local';
  /** Null: the answer ended by itself. */
  readonly landed: Landed | null;
  /** Length of the text. */
  readonly characters: number;
  /** The upstream's name. */
  readonly name: string;
  /** The exchange with the upstream. */
  readonly upstream: Readonly<Record<string, unknown>> & { readonly usage: { readonly completion_tokens: number } };
  readonly arrivedAt: number;
  /** Null: it has none. */
  readonly budgetMs: number | null;
  readonly first: FirstDue;
  readonly net: Net | null;
}

/** The `sortie` field of the answer at this moment. Times are in ms. A field without a value is absent. */
export function timedReport({ side, landed, characters, name, upstream, arrivedAt, budgetMs, first, net }: Facts) {
  const actual = Math.round((monotonicMs() - arrivedAt) * 1000) / 1000;
  const local = side === 'local' ? net?.source(characters) : undefined;
  const own = {
    source: side,
    model: name,
    tokens: upstream.usage.completion_tokens,
    characters,
    ms: actual,
  };
  return present({
    source: side === 'upstream' && landed !== null ? 'upstream-landed' : side,
    budget_ms: budgetMs,
    ...first.report(),
    actual_ms: actual,
    met: actual <= (budgetMs ?? Infinity) && first.isMet && (landed?.sentence ?? local?.met ?? true),
    landed,
    sources: [local?.source ?? own],
    net: net?.report(),
    upstream,
  });
}

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
