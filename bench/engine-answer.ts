/** One answer of an engine process. Knows: EngineClient. Must not know: what is measured. */
import type { EngineClient } from '../src/engine/client/client.js';
import type { EndedEvent, GenerateMessage } from '../src/engine/protocol.js';

/**
 * @param token called with each token's arrival
 * @returns how it ended
 * @throws Error when it is refused or lost
 */
export function answerOf(
  engine: EngineClient,
  request: Omit<GenerateMessage, 'type'>,
  token: () => void,
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
