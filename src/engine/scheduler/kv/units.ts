/**
 * The units that own a KV cache: trunk stages first, then exit blocks; and a slot, with its frontier in each of them.
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

/** A trunk stage or an exit block, with the boundary that it reads. */
export interface Unit {
  readonly entry: { readonly boundary: number };
}

/** @typeParam S a unit of the model's layout */
export interface Units<S extends Unit = Unit> {
  readonly stages: readonly S[];
  readonly trunkStages: number;
  /** Shallowest first. */
  readonly exits: readonly ExitUnits[];
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
  return { stages: [...model.stages, ...blocks], trunkStages, exits, feedsBlock };
}

/** Index of an exit layer. @throws RangeError for a layer that is not an exit */
export function exitOfLayer(exits: readonly Pick<ExitUnits, 'layer'>[], layer: ExitLayer): ExitIndex {
  const index = exits.findIndex((exit) => exit.layer === layer);
  if (index < 0) throw new RangeError(`layer ${layer} is not an exit: ${exits.map((each) => each.layer).join(', ')}`);
  return index;
}

/**
 * One slot of the KV cache: tokens, and for each unit its frontier (positions it has processed).
 *
 * Must not know: memory (SlotTable moves it), requests.
 *
 * Invariants: a deeper trunk stage never leads a shallower one. Boundary b stores hidden states from the frontier
 * of its next stage up to the frontier of its previous stage. If an exit block reads b, it stores those of all
 * positions.
 */
export class Slot {
  /** Tokens whose positions a unit may have processed; while the slot is live, the sequence's own array. */
  tokens: number[] = [];
  /** The prefix space of the sequence that filled the slot (SequenceRequest.prefixSpace). */
  space: string | undefined = undefined;
  readonly frontiers: Int32Array;
  /** A live sequence owns the slot; otherwise it is a reusable prefix, or empty. */
  live = false;
  /** Logical time of its last use, for eviction of the least recently used prefix. */
  lastUsed = 0;
  /** Positions of the slot's memory that the system holds for it. */
  written = 0;

  /** @param index place in the KV buffers */
  constructor(
    readonly index: number,
    units: number,
  ) {
    this.frontiers = new Int32Array(units);
  }

  frontier(unit: number): number {
    return this.frontiers[unit] ?? 0;
  }

  /** Least frontier among units. */
  least(units: readonly number[]): number {
    let least = Infinity;
    for (const unit of units) least = Math.min(least, this.frontier(unit));
    return least;
  }

  /** Positions that the first stage, which leads, has processed. */
  get length(): number {
    return this.frontier(0);
  }

  /** Sets a unit's frontier after it processed positions up to `end`. */
  reach(unit: number, end: number): void {
    this.frontiers[unit] = end;
    this.written = Math.max(this.written, end);
  }

  /** Rolls every unit back to at most `length` positions. */
  truncate(length: number): void {
    for (let unit = 0; unit < this.frontiers.length; unit++)
      this.frontiers[unit] = Math.min(this.frontier(unit), length);
  }
}
