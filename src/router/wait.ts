/**
 * The wait of a request that would arrive now: the load of a server in the unit of budgets, for balancers of several
 * servers.
 */
import { type Player, play } from './forecast.js';
import type { PlanningState } from './planning-state.js';

/**
 * Milliseconds until a new request of no length has its first token, behind all others and with every prompt at its
 * shallowest exit. Depth gives way under load, so deeper exits say nothing about the room that is left. 0 on an idle server.
 * @param state with all waiting requests
 */
export function predictedWaitMs({ requests, engine, costs }: PlanningState): number {
  if (requests.length === 0) return 0;
  const players = requests.map((each): Player => {
    const exit = each.isBeginning ? each.minExit : each.currentExit;
    return {
      dueAt: each.dueAt,
      leavesAt: Infinity,
      exit,
      setupMs: each.setupMs(exit),
      chunks: each.chunks(exit),
      tokens: each.meanLeft(exit),
      hasSlot: each.live !== null,
    };
  });
  const last: Player = {
    ...{ dueAt: Infinity, leavesAt: Infinity, exit: 0 },
    ...{ setupMs: 0, chunks: 1, tokens: 1, hasSlot: false },
  };
  return play([...players, last], engine.slots, costs).at(-1)?.firstTokenAt ?? 0;
}
