/**
 * The units that own a KV cache: trunk stages first, then exit blocks. Each sequence has one frontier per unit.
 *
 * Must not know: sequences, kernels.
 */
import type { Dry, ExitEntry } from '../../model/manifest.js';
import type { ExitIndex, ExitLayer } from '../../../protocol/index.js';

export interface ExitUnits {
  readonly layer: ExitLayer;
  /** Last trunk stage. */
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

/** A trunk stage or an exit block, as far as accounts need it. */
export interface Unit {
  readonly entry: {
    readonly layers: number;
    readonly boundary: number;
  };
}

/** @typeParam S a unit of the model's layout */
export interface Units<S extends Unit = Unit> {
  readonly stages: readonly S[];
  readonly trunkStages: number;
  /** Shallowest first. */
  readonly exits: readonly ExitUnits[];
  /** Full depth. */
  readonly deepest: ExitIndex;
  /** Whether an exit block reads boundary b: its hidden states stay stored for all positions. */
  readonly feedsBlock: readonly boolean[];
}

interface ModelExit<S> {
  readonly entry: Pick<ExitEntry, 'layer' | 'stage' | 'norm' | 'dry'>;
  readonly block: S | null;
}

export function unitsOf<S extends Unit>(model: {
  readonly stages: readonly S[];
  readonly exits: readonly ModelExit<S>[];
}): Units<S> {
  const trunkStages = model.stages.length;
  const blocks: S[] = [];
  const feedsBlock = new Array<boolean>(trunkStages + 1).fill(false);
  const exits = model.exits.map(({ entry, block }): ExitUnits => {
    const unit = block ? trunkStages + blocks.push(block) - 1 : null;
    if (block) feedsBlock[block.entry.boundary] = true;
    const needed = Array.from({ length: entry.stage + 1 }, (_, stage) => stage);
    if (unit !== null) needed.push(unit);
    const { layer, stage, norm, dry = null } = entry;
    return { layer, stage, block: unit, norm, dry, needed };
  });
  return { stages: [...model.stages, ...blocks], trunkStages, exits, deepest: model.exits.length - 1, feedsBlock };
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
