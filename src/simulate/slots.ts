/** Slots of a simulation, managed as in the engine but counted in KV positions and without prefix reuse. */
import { type LiveRequest, preempted } from './request.js';

export interface Room {
  readonly slots: number;
  readonly kvPositions: number;
}

/** Positions that a request holds with its next token. */
function need({ promptLength, generated }: LiveRequest): number {
  return promptLength + generated + 1;
}

/** Positions that remain when every live request has its next token. */
function freePositions(live: readonly LiveRequest[], { kvPositions }: Room): number {
  return Math.max(0, kvPositions - live.reduce((sum, each) => sum + need(each), 0));
}

/**
 * Starts waiting requests while slots and positions last, and promises in place of others, which go on later from the
 * positions that their slot stores. A request always starts if no other one runs.
 * @param waiting in order of service
 * @param kept requests without a promise that keep their slots, oldest first
 */
export function fill(
  live: readonly LiveRequest[],
  waiting: readonly LiveRequest[],
  kept: number,
  room: Room,
): { readonly live: LiveRequest[]; readonly waiting: LiveRequest[] } {
  const running = [...live];
  const yielded: LiveRequest[] = [];
  let next = 0;
  for (let each = waiting[next]; each !== undefined; each = waiting[next]) {
    const wanted = need(each);
    const hasRoom = (): boolean => running.length < room.slots && wanted <= freePositions(running, room);
    while (each.serviceClass === 'guaranteed' && !hasRoom()) {
      const others = running.filter(({ serviceClass }) => serviceClass !== 'guaranteed');
      const victim = others
        .sort((a, b) => a.arrivedAt - b.arrivedAt)
        .slice(kept)
        .at(-1);
      if (victim === undefined) break;
      running.splice(running.indexOf(victim), 1);
      yielded.push({ ...victim, preemptions: victim.preemptions + 1 });
    }
    if (!hasRoom() && running.length > 0) break;
    running.push(each);
    next++;
  }
  return { live: running, waiting: [...waiting.slice(next), ...yielded] };
}

function newestOf(requests: readonly LiveRequest[]): LiveRequest | undefined {
  return requests.reduce<LiveRequest | undefined>(
    (newest, each) => (newest === undefined || each.arrivedAt >= newest.arrivedAt ? each : newest),
    undefined,
  );
}

/**
 * Preempts the newest requests until the others have room for their next token.
 */
export function preempt(
  live: readonly LiveRequest[],
  room: Room,
): { readonly live: LiveRequest[]; readonly preempted: LiveRequest[] } {
  const running = [...live];
  const gone: LiveRequest[] = [];
  const demand = (): number => running.reduce((sum, each) => sum + need(each), 0);
  while (running.length > 1 && demand() > room.kvPositions) {
    const newest = newestOf(running.filter(({ serviceClass }) => serviceClass !== 'guaranteed')) ?? newestOf(running);
    if (newest === undefined) break;
    running.splice(running.indexOf(newest), 1);
    gone.unshift(preempted(newest));
  }
  return { live: running, preempted: gone };
}
