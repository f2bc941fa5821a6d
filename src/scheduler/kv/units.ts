/**
 * The units that own a KV cache: trunkStages stages first, then exit blocks. Each sequence has one frontier per unit.
 *
 * Must not know: sequences, kernels.
 */
import type { Dry, ExitEntry } from '../../model/manifest.js';
import type { ExitIndex, ExitLayer } from '../../protocol/index.js';

export interface ExitUnits {
  readonly layer: ExitLayer;
  /** Last trunkStages stage. */
  readonly stage: number;
  /** Unit index of the exit's block, or null. */
  readonly block: number | null;
  /** Row of the head's norm table. */
  readonly norm: number;
  /** The manifest's DRY rule for this exit, or null. */
  readonly dry: Dry | null;
  /** Units that must have processed all positions before this exit emits a token. */
  readonly needed: readonly number[];
}

/** A trunkStages stage or an exit block, as far as accounts need it. */
export interface Unit {
  readonly entry: { readonly layers: number; readonly boundary: number };
}

/** @typeParam S a unit of the model's layout */
export interface Units<S extends Unit = Unit> {
  readonly stages: readonly S[];
  readonly trunkStages: number;
  readonly exits: readonly ExitUnits[];
  /** Whether an exit block reads boundary b: its hidden states stay stored for all positions. */
  readonly feedsBlock: readonly boolean[];
}

export function unitsOf<S extends Unit>(model: {
  readonly stages: readonly S[];
  readonly exits: readonly { entry: Pick<ExitEntry, 'layer' | 'stage' | 'norm' | 'dry'>; block: S | null }[];
}): Units<S> {
  const trunkStages = model.stages.length;
  const blocks: S[] = [];
  const feedsBlock = new Array<boolean>(trunkStages + 1).fill(false);
  const exits = model.exits.map(({ entry, block }): ExitUnits => {
    const unit = block ? trunkStages + blocks.push(block) - 1 : null;
    if (block) feedsBlock[block.entry.boundary] = true;
    const needed = Array.from({ length: entry.stage + 1 }, (_, stage) => stage);
    if (unit !== null) needed.push(unit);
    return { layer: entry.layer, stage: entry.stage, block: unit, norm: entry.norm, dry: entry.dry ?? null, needed };
  });
  return { stages: [...model.stages, ...blocks], trunkStages, exits, feedsBlock };
}

/** @throws RangeError for an index without an exit */
export function exitAt({ exits }: Units, index: ExitIndex): ExitUnits {
  const exit = exits[index];
  if (!exit) throw new RangeError(`exit ${index} does not exist`);
  return exit;
}

/** @throws RangeError if there is no such unit */
export function stageAt<S extends Unit>({ stages }: Units<S>, unit: number): S {
  const stage = stages[unit];
  if (!stage) throw new RangeError(`unit ${unit} does not exist`);
  return stage;
}

/** Index of an exit layer. @throws RangeError for a layer that is not an exit */
export function exitOfLayer(exits: readonly Pick<ExitUnits, 'layer'>[], layer: ExitLayer): ExitIndex {
  const index = exits.findIndex((exit) => exit.layer === layer);
  if (index < 0) throw new RangeError(`layer ${layer} is not an exit: ${exits.map((each) => each.layer).join(', ')}`);
  return index;
}
