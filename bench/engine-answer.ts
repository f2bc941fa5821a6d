/** One answer of an engine process. */
import type { EngineClient } from '../src/engine/client/client.js';
import type { EndedEvent, GenerateMessage, TokenEvent } from '../src/engine/protocol.js';

/**
 * @param token called at the arrival of each token
 * @returns the end of the answer
 * @throws Error if the engine rejects or loses the request
 */
export function answerOf(
  engine: EngineClient,
  request: Omit<GenerateMessage, 'type'>,
  token: (event: TokenEvent) => void,
): Promise<EndedEvent> {
  return new Promise((resolve, reject) => {
    engine.generate(request, {
      planned: () => undefined,
      prompt: () => undefined,
      token,
      refused: ({ reason }) => {
        reject(new Error(reason));
      },
      lost: (message) => {
        reject(new Error(message));
      },
      ended: resolve,
    });
  });
}
