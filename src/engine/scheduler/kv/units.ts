/**
 * The units that own a KV cache: trunk stages first, then exit blocks; and a slot, with its frontier in each of them.
 *
 * Must not know: sequences, kernels.
 */
import type { Dry, ExitEntry } from '../../model/manifest.js';
import type { ExitIndex, ExitLayer } from '../../../protocol/index.js';

export interface ExitUnits extends Pick<ExitEntry, 'layer' | 'stage' | 'norm'> {
  /** Unit index of the exit's block, or null. */
  readonly block: number | null;
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
  /** Boundaries that an exit block reads: their hidden states stay stored for all positions. */
  readonly blockBoundaries: ReadonlySet<number>;
}

export function unitsOf<S extends Unit>(model: {
  readonly stages: readonly S[];
  readonly exits: readonly { readonly entry: Omit<ExitEntry, 'block' | 'quality'>; readonly block: S | null }[];
}): Units<S> {
  const trunkStages = model.stages.length;
  const blocks: S[] = [];
  const exits = model.exits.map(({ entry: { layer, stage, norm, dry = null }, block }): ExitUnits => {
    const unit = block && trunkStages + blocks.push(block) - 1;
    const trunk = Array.from({ length: stage + 1 }, (_, each) => each);
    return { layer, stage, norm, dry, block: unit, needed: unit === null ? trunk : [...trunk, unit] };
  });
  const blockBoundaries = new Set(blocks.map(({ entry }) => entry.boundary));
  return { stages: [...model.stages, ...blocks], trunkStages, exits, blockBoundaries };
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
  /** Logical time of its last use; 0 for an empty slot. */
  lastUsed = 0;
  /** Positions of its memory that the system holds for it, of a slot of fixed size. */
  written = 0;
  /** Its block table: pages in the order of its positions, where the memory has pages. */
  readonly pages: number[] = [];

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
    return Math.min(...units.map((unit) => this.frontier(unit)));
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
    this.frontiers.set(this.frontiers.map((end) => Math.min(end, length)));
  }
}
