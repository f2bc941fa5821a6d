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

export function sharedParts(upstream: Upstream): SharedParts {
  return { connection: new UpstreamConnection(upstream), breaker: new Breaker(), sentences: new SentenceTimes() };
}
