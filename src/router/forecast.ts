/**
 * Plays the future of a batch forward: prefills in order of service, one chunk between decode steps, decode until each
 * planned length is reached, slots and KV room given to the waiting as they come free.
 *
 * Knows: amounts of work. Must not know: budgets, policy, where the amounts come from. O(jobs x log jobs).
 */
import type { StepMs } from './steps.js';

/** A job's work from now on. */
export interface Load {
  readonly exit: number;
  /** 0 for a sequence that decodes already. */
  readonly prefillMs: number;
  /** Steps that its prefill is spread over, at least 1 before its next token: in the last one it decodes already. */
  readonly chunks: number;
  /** Decode steps, that one included. */
  readonly steps: number;
  readonly holdsSlot: boolean;
  /** KV positions it holds now, and will take until its end beyond those. */
  readonly held: number;
  readonly positions: number;
}

/** What is free now. */
export interface Room {
  readonly slots: number;
  readonly positions: number;
}

export interface Forecast {
  /** By job: instant of the first token after its prefill (now, where it decodes already), and of its last token. */
  readonly first: Float64Array;
  readonly end: Float64Array;
}

/**
 * @param queue indices of the loads that have something to prefill, in order of service; one that gets no slot yet is
 *   passed over
 */
export function forecast(
  loads: readonly Load[],
  queue: readonly number[],
  room: Room,
  now: number,
  step: StepMs,
): Forecast {
  const count = loads.length;
  const first = new Float64Array(count).fill(now);
  const end = new Float64Array(count);
  const exits = loads.reduce((most, load) => Math.max(most, load.exit), 0) + 1;
  const rows = new Int32Array(exits);
  // Decoding jobs by rising last step, as parallel stacks with the next to finish on top.
  const active: { job: number; last: number }[] = [];
  let time = now;
  let clock = 0;
  let freeSlots = room.slots;
  let freePositions = room.positions;

  const join = (job: number, load: Load): void => {
    const last = clock + load.steps;
    let at = active.length;
    while (at > 0 && (active[at - 1]?.last ?? 0) < last) at -= 1;
    active.splice(at, 0, { job, last });
    rows[load.exit] = (rows[load.exit] ?? 0) + 1;
  };
  const settle = (): void => {
    for (let top = active.at(-1); top !== undefined && top.last <= clock; top = active.at(-1)) {
      active.pop();
      const load = loads[top.job];
      if (load === undefined) continue;
      end[top.job] = time;
      rows[load.exit] = (rows[load.exit] ?? 0) - 1;
      freeSlots += 1;
      freePositions += load.held + load.positions;
    }
  };
  const advance = (by: number, extraMs: number): void => {
    for (let left = by; left > 0;) {
      const top = active.at(-1);
      const run = top === undefined ? left : Math.min(left, top.last - clock);
      time += run * (extraMs + (top === undefined ? 0 : step(rows)));
      clock += run;
      left -= run;
      settle();
    }
  };

  loads.forEach((load, job) => {
    if (load.holdsSlot) freePositions -= load.positions;
    if (load.chunks === 0) join(job, load);
  });
  settle();
  const pending = [...queue];
  while (pending.length > 0) {
    const fits = (load: Load | undefined): boolean =>
      load === undefined || load.holdsSlot || (freeSlots > 0 && freePositions >= load.positions);
    const at = pending.findIndex((job) => fits(loads[job]));
    const top = active.at(-1);
    if (at < 0 && top !== undefined) {
      advance(top.last - clock, 0);
      continue;
    }
    const [job] = pending.splice(Math.max(0, at), 1);
    const load = loads[job ?? -1];
    if (job === undefined || load === undefined) continue;
    if (!load.holdsSlot) {
      freeSlots -= 1;
      freePositions -= load.positions;
    }
    const chunkMs = load.prefillMs / load.chunks;
    advance(load.chunks - 1, chunkMs);
    join(job, load);
    advance(1, chunkMs);
    first[job] = time;
    settle();
  }
  for (let top = active.at(-1); top !== undefined; top = active.at(-1)) advance(top.last - clock, 0);
  return { first, end };
}
