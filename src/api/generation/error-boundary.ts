/**
 * Confines a fault in one answer to that answer. Events arrive on the channel to the engine, where an uncaught error
 * would stop the process.
 */
import type { SequenceSink } from '../../engine/client/engine.js';
import type { AuditEvent } from '../../engine/protocol.js';

/**
 * @param failed gets the error that a method of the sink threw
 * @param audited gets the audit that follows the end
 */
export function withErrorBoundary(
  sink: SequenceSink,
  failed: (error: unknown) => void,
  audited: (event: AuditEvent | null) => void = () => undefined,
): SequenceSink {
  const guard =
    <E extends unknown[]>(act: (...event: E) => void) =>
    (...event: E): void => {
      try {
        act(...event);
      } catch (error) {
        failed(error);
      }
    };
  return {
    planned: guard((event) => {
      sink.planned(event);
    }),
    refused: guard((event) => {
      sink.refused(event);
    }),
    prompt: guard((event) => {
      sink.prompt(event);
    }),
    token: guard((event, at) => {
      sink.token(event, at);
    }),
    ended: guard((event) => {
      sink.ended(event);
    }),
    audited: guard(audited),
    lost: guard((message) => {
      sink.lost(message);
    }),
  };
}
