/** One answer of an engine process. */
import type { EngineClient } from '../src/gateway/engine-client/client.js';
import type { EndedEvent, SequenceRequest, TokenEvent } from '../src/protocol/index.js';
import { answerRequest } from './greedy-request.js';

/**
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
