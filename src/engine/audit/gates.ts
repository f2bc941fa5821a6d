/** The gate of a looped model over an audited answer: how likely each loop, or an earlier one, is the last. */
import { cumulated, type Gate } from '../model/gate.js';
import type { States } from '../model/head.js';
import type { AuditEvent } from '../../protocol/index.js';
import type { AuditJob } from './job.js';

/** The probability to stop after a loop at each position [first, last); none where states can't be read. */
export function gateStops(gate: Gate, states: States, [first, last]: readonly [number, number]): number[] {
  const stops: number[] = [];
  for (let position = first; position < last; position++) {
    const state = states.read(position);
    if (state !== null) stops.push(gate.stop(state));
  }
  return stops;
}

/** Adds the positions of a chunk. @param stops by loop below full depth, by position */
export function addGates(job: AuditJob, stops: readonly (readonly number[])[]): void {
  const positions = Math.min(...stops.map((each) => each.length));
  for (let i = 1; i <= positions; i++) {
    // A stage that caught up has more positions than the others, all of them earlier.
    const sums = cumulated(stops.map((each) => each.at(-i) ?? NaN));
    sums.forEach((value, loop) => (job.gates[loop] = (job.gates[loop] ?? 0) + value));
    job.gated++;
  }
}

/** The means of an audit, with full depth's 1; nothing for a model without a gate. */
export function gatesOf({ gates, gated }: AuditJob): Pick<AuditEvent, 'gate'> {
  return gated === 0 ? {} : { gate: [...gates.map((sum) => sum / gated), 1] };
}
