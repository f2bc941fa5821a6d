/** A request at one exit, for benches and tests. */
import { monotonicMs } from '../src/util/clock.js';
import type { EngineClient } from '../src/gateway/engine-client/client.js';
import type { EndedEvent, EngineRequest, Sampling, SequenceRequest, TokenEvent } from '../src/protocol/index.js';
import { GREEDY } from '../src/protocol/request.js';

/** Greedy without a DRY rule: the answer of the base, and the speed of a server without the rule. */
export const GREEDY_BASE: Sampling = { ...GREEDY, dry: { multiplier: 0, base: 1.75, allowedLength: 2 } };

/** A request that arrives now and decodes exactly `maxTokens` tokens greedily at one exit. */
export function greedy(
  id: string,
  prompt: readonly number[],
  exit: number,
  maxTokens: number,
  overrides: Partial<SequenceRequest> = {},
): SequenceRequest {
  return {
    id,
    arrivedAt: monotonicMs(),
    prompt,
    maxTokens,
    minTokens: 0,
    stopTokens: [],
    sampling: GREEDY,
    logprobs: null,
    promptLogprobs: null,
    depth: { minExit: exit, maxExit: exit, budget: null },
    kind: 'completion',
    ...overrides,
  };
}

/** The request of an answer that has these sequences only. They share the fields of the first one. */
export function answerRequest(...requests: readonly [SequenceRequest, ...SequenceRequest[]]): EngineRequest {
  return {
    ...requests[0],
    prompts: requests.map(({ prompt }) => prompt),
    sequences: requests.map(({ id, maxTokens, sampling: { seed } }, prompt) => ({ id, prompt, maxTokens, seed })),
  };
}

/**
 * One answer of an engine process.
 * @param token called at the arrival of each token
 * @returns the end of the answer
 * @throws Error if the engine rejects or loses the request
 */
export async function answerOf(
  engine: EngineClient,
  request: SequenceRequest,
  token: (event: TokenEvent) => void,
): Promise<EndedEvent> {
  for await (const events of engine.generate(answerRequest(request))) {
    for (const each of events) {
      if (each.type === 'token') token(each.event);
      else if (each.type === 'ended') return each.event;
      else if (each.type === 'rejected') throw new Error(each.event.reason);
      else if (each.type === 'lost') throw new Error(each.message);
    }
  }
  throw new Error('an answer without an end');
}
