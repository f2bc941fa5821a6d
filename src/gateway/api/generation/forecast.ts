/**
 * The time of a request to the end of one sentence, as the engine forecasts it at this moment. It is the least budget
 * that the engine would promise, with queue, slots and KV memory. The request is a dry run, and takes no place.
 *
 * Must not know: forms of an answer, HTTP.
 */
import { randomBytes } from 'node:crypto';
import { monotonicMs } from '../../../util/clock.js';
import type { Budget, EngineRequest, NetWork, RejectedEvent } from '../../../protocol/index.js';
import type { ApiContext } from '../context.js';

export interface Forecast extends NetWork {
  /** From the question to the end of the sentence, at the shallowest exit of the request, ms. */
  readonly sentenceMs: number;
}

/** Why there is no forecast. */
export type NoForecast = RejectedEvent['reason'] | 'loading' | 'engine_lost';

/** No first token comes in this time, so the engine rejects the request and names the least total budget. ms */
const TOO_SHORT = 0.001;

/** Further steps in which the engine is asked again, if rejections have used up the planning time of one. */
const MOST_TRIES = 8;

/**
 * @param request of one sequence
 * @param totalMs the forecast is of use for so long, from now on
 */
export async function forecastOf(
  { engine }: Pick<ApiContext, 'engine'>,
  request: EngineRequest,
  totalMs: number,
  triesLeft = MOST_TRIES,
): Promise<Forecast | NoForecast> {
  if (engine.ready === null) return 'loading';
  const tokens = request.prompts.reduce((sum, { length }) => sum + length, 0);
  if (!engine.hasRoom(request.tenant ?? '', request.sequences.length, tokens)) return 'queue_full';
  const id = randomBytes(12).toString('hex');
  const budget: Budget = { totalMs, ttftMs: TOO_SHORT, tpotMs: null, onMiss: 'reject' };
  const asked: EngineRequest = {
    ...request,
    arrivedAt: monotonicMs(),
    depth: { ...request.depth, budget },
    sequences: request.sequences.map((each, index) => ({ ...each, id: `${id}-${index}` })),
    isDryRun: true,
  };
  for await (const events of engine.generate(asked)) {
    for (const each of events) {
      if (each.type === 'lost') return 'engine_lost';
      if (each.type !== 'rejected') continue;
      const { leastFeasibleMs, promised, reason, isUnsought = false } = each.event;
      if (isUnsought && triesLeft > 0) return forecastOf({ engine }, request, totalMs, triesLeft - 1);
      return leastFeasibleMs === null || promised === undefined ? reason : { sentenceMs: leastFeasibleMs, ...promised };
    }
  }
  return 'budget_infeasible';
}
