/**
 * The units that own a KV cache: trunk stages first, then exit blocks. One frontier per unit and sequence.
 *
 * Knows: which units an exit needs. Must not know: sequences, kernels.
 */
import type { Dry } from '../../model/manifest.js';
import type { Stage, StagedModel } from '../../model/staged-model.js';

export interface ExitUnits {
  readonly layer: number;
  /** Last trunk stage. */
  readonly stage: number;
  /** Unit index of the exit's block, or null. */
  readonly block: number | null;
  /** Row of the head's norm table. */
  readonly norm: number;
  /** Its manifest's rule against loops, or null. */
  readonly dry: Dry | null;
  /** Every unit that must reach the last position before this exit can answer. */
  readonly needed: readonly number[];
}

export interface Units {
  readonly stages: readonly Stage[];
  readonly trunk: number;
  readonly exits: readonly ExitUnits[];
  /** Whether an exit block reads boundary b: its states are kept for all positions. */
  readonly branched: readonly boolean[];
}

export function unitsOf(model: StagedModel): Units {
  const trunk = model.stages.length;
  const blocks: Stage[] = [];
  const branched = new Array<boolean>(trunk + 1).fill(false);
  const exits = model.exits.map(({ entry, block }): ExitUnits => {
    const unit = block ? trunk + blocks.push(block) - 1 : null;
    if (block) branched[block.entry.boundary] = true;
    const needed = Array.from({ length: entry.stage + 1 }, (_, stage) => stage);
    if (unit !== null) needed.push(unit);
    return { layer: entry.layer, stage: entry.stage, block: unit, norm: entry.norm, dry: entry.dry ?? null, needed };
  });
  return { stages: [...model.stages, ...blocks], trunk, exits, branched };
}
