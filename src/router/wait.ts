/**
 * The wait of a request that would arrive now: the load of a server in the unit of budgets, for balancers of several
 * servers.
 *
 * Knows: the planning state. Must not know: exits that are chosen.
 */
import type { PlanningState } from './planning-state.js';
import { plannedChunk } from './policy.js';

/**
 * Milliseconds until a new request of no length has its first token, with every request at its shallowest exit. Depth
 * gives way under load, so deeper exits say nothing about the room that is left. 0 on an idle server.
 * @param state with all waiting requests
 */
export function predictedWaitMs(state: PlanningState): number {
  const { live, waiting, slots } = state.engine;
  if (live.length + waiting.length === 0) return 0;
  const chunk = plannedChunk(state.policy);
  let [prefillMs, chunks, stepsLive] = [0, 0, 0];
  for (const each of state.requests) {
    const { minExit } = each;
    if (each.live !== null) stepsLive += each.meanStepsLeft(minExit);
    if (!each.isPrefilling) continue;
    prefillMs += each.setupMs(minExit);
    chunks += Math.max(1, Math.ceil(each.remainingPrefill(minExit, each.request.expectedFrontier) / chunk));
  }
  const stepMs = state.stepOf(state.requests.slice(0, slots).map(({ minExit }) => minExit));
  const turns = Math.max(0, waiting.length + 1 - (slots - live.length)) / slots;
  const slotMs = (turns * stepsLive * stepMs) / Math.max(1, live.length);
  return slotMs + prefillMs + (chunks + 1) * stepMs;
}
