/** A net in the engine: it is armed or rejected there, and sleeps until its latest start or its wake. */
import type { ApiContext } from '../api/context.js';
import type { GenerationRequest } from '../api/generation/read-request.js';
import type { ArmedEvent, EngineRequest, RejectedEvent } from '../../protocol/index.js';
import type { NoNet } from './net-policy.js';

export interface Asleep extends Omit<ArmedEvent, 'id'> {
  /** Their next ones come when it wakes, or the engine is lost. */
  readonly events: NonNullable<GenerationRequest['begun']>;
}

const NO_NET: Readonly<Record<RejectedEvent['reason'], NoNet>> = {
  budget_infeasible: 'budget',
  queue_full: 'capacity',
  too_long: 'context',
  unknown_token: 'unsupported',
  grammar: 'unsupported',
  grammars_lost: 'not_ready',
};

/**
 * Asks the engine for a net.
 * @param request of the local answer
 * @param signal gives it up
 * @returns why there is none
 */
export async function fallAsleep(
  { engine }: ApiContext,
  request: EngineRequest,
  signal: AbortSignal,
): Promise<Asleep | NoNet> {
  if (engine.ready === null || signal.aborted) return 'not_ready';
  const tokens = request.prompts.reduce((sum, { length }) => sum + length, 0);
  if (!engine.hasRoom(request.tenant ?? '', request.sequences.length, tokens)) return 'capacity';
  const events = engine.generate(request);
  signal.addEventListener('abort', () => void events.return(), { once: true });
  const armed: ArmedEvent[] = [];
  while (armed.length < request.sequences.length) {
    const { value = [], done } = await events.next();
    const rejected = value.find((each) => each.type === 'rejected');
    if (rejected !== undefined) return NO_NET[rejected.event.reason];
    if (done === true || value.some(({ type }) => type === 'lost' || type === 'ended')) return 'not_ready';
    armed.push(...value.flatMap((each) => (each.type === 'armed' ? [each.event] : [])));
    events.putBack(value.filter(({ type }) => type !== 'armed'));
  }
  return {
    events,
    latestStart: Math.min(...armed.map(({ latestStart }) => latestStart)),
    sentenceMs: Math.max(...armed.map(({ sentenceMs }) => sentenceMs)),
  };
}
