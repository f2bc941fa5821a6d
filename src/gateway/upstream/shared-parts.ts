/** The parts that all models and answers of one upstream share. */
import { Breaker } from './breaker.js';
import { UpstreamConnection } from './connection.js';
import { SentenceTimes } from './sentence-times.js';
import type { Upstream } from './upstream.js';

export interface SharedParts {
  readonly connection: UpstreamConnection;
  readonly breaker: Breaker;
  readonly sentences: SentenceTimes;
}

/** @param breakerChanged is called as its breaker opens and as it closes */
export function sharedParts(upstream: Upstream, breakerChanged: (isOpen: boolean) => void): SharedParts {
  const breaker = new Breaker(breakerChanged);
  return { connection: new UpstreamConnection(upstream), breaker, sentences: new SentenceTimes() };
}
