/**
 * What a row adds to a step, and what a step costs whoever is in it, by exit: the linear view that sums are made of.
 *
 * Knows: the cost of whole steps. Must not know: requests.
 */
import type { StepMs } from './steps.js';

export interface Levels {
  /** By exit: ms that one more row leaving there adds to a step that reaches as deep anyway. */
  readonly row: Float64Array;
  /** By exit: ms of a step that reaches there, before its rows. */
  readonly fixed: Float64Array;
}

/** Rows that share a step, about: how much of what a step costs whoever is in it counts for one of them. */
const SHARING = 4;

/**
 * Milliseconds that a token takes at an exit, its share of what a step costs whoever is in it included.
 * @param sharing rows of the step; 1 where it is alone
 */
export function tokenMs({ row, fixed }: Levels, exit: number, sharing = SHARING): number {
  return (row[exit] ?? 0) + (fixed[exit] ?? 0) / sharing;
}

/** @param rows how many rows share a step, about: costs bend, so the slope is taken from one row to these */
export function levelsOf(step: StepMs, exits: number, rows: number): Levels {
  const row = new Float64Array(exits);
  const fixed = new Float64Array(exits);
  const counts = new Int32Array(exits);
  const many = Math.max(2, rows);
  for (let exit = 0; exit < exits; exit += 1) {
    counts[exit] = 1;
    const one = step(counts);
    counts[exit] = many;
    const all = step(counts);
    counts[exit] = 0;
    row[exit] = Math.max(0, (all - one) / (many - 1));
    fixed[exit] = Math.max(0, one - (row[exit] ?? 0));
    // A deeper exit never costs less, whatever was measured.
    if (exit === 0) continue;
    row[exit] = Math.max(row[exit] ?? 0, row[exit - 1] ?? 0);
    fixed[exit] = Math.max(fixed[exit] ?? 0, fixed[exit - 1] ?? 0);
  }
  return { row, fixed };
}
