/**
 * The cost model: the table measured at start, times the drift learnt since (drift.ts). It prices a step by its units.
 *
 * Knows: units, exits, rows, context. Must not know: requests and their budgets.
 */
import { type Curve, cheapestAt, curveOf } from './curve.js';
import type { CostTable } from './table.js';

/** One exit of the model, shallowest first in DepthShape. */
export interface ExitShape {
  /** The number that a client names. */
  readonly layer: number;
  /** Index of the last trunk stage that the exit needs. */
  readonly stage: number;
  /** Cost unit of its exit block, or null where it has none. */
  readonly block: string | null;
  /** Measured agreement with full depth, 0..1. Only the order and the differences matter. */
  readonly quality: number;
}

/** Which units run for which exit. */
export interface DepthShape {
  /** Cost units of the trunk stages, in order. */
  readonly stages: readonly string[];
  readonly exits: readonly ExitShape[];
}

interface UnitCurves {
  /** One curve per kernel. */
  readonly decode: readonly Curve[];
  readonly prefill: readonly Curve[];
}

export interface CostModel {
  readonly shape: DepthShape;
  readonly stages: readonly UnitCurves[];
  /** By exit; null where the exit has no block. */
  readonly blocks: readonly (UnitCurves | null)[];
  readonly embed: UnitCurves;
  readonly head: UnitCurves;
  /** Sampling and messages of a step: the table's unit `step`, free where absent. */
  readonly step: UnitCurves;
  readonly drift: Drift;
}

/**
 * @param slowdown how many times slower than the table the machine is at start
 * @throws Error when the table lacks a unit that the shape names, or has no decode or prefill point for it.
 */
export function costModel(table: CostTable, shape: DepthShape, slowdown = 1): CostModel {
  const unit = (name: string, required: boolean): UnitCurves => {
    const costs = table.units.filter((cost) => cost.unit === name);
    const decode = costs.filter((cost) => cost.decode.length > 0).map((cost) => curveOf(cost.decode));
    const prefill = costs.filter((cost) => cost.prefill.length > 0).map((cost) => curveOf(cost.prefill));
    if (required && (decode.length === 0 || prefill.length === 0)) {
      throw new Error(`the cost table must have decode and prefill points for "${name}"`);
    }
    return { decode, prefill };
  };
  return {
    shape,
    stages: shape.stages.map((name) => unit(name, true)),
    blocks: shape.exits.map((exit) => (exit.block === null ? null : unit(exit.block, true))),
    embed: unit('embed', false),
    head: unit('head', false),
    step: unit('step', false),
    drift: { ...noDrift, slowdown },
  };
}

export type WorkKind = 'decode' | 'prefill';

/** How this machine differs from its table at present: cost = table * slowdown * bySize. drift.ts learns it. */
export interface Drift {
  readonly slowdown: number;
  /** By size of the work, powers of two: the table's own error. */
  readonly decode: readonly number[];
  readonly prefill: readonly number[];
  /** Latest ratios of actual to expected, oldest first. */
  readonly ratios: readonly number[];
  /** Observed TPOT: busy ms per decode step, prefill of other requests included; 0: unknown. */
  readonly tpotMs: number;
}

const SIZES = 12;
const ones: readonly number[] = new Array<number>(SIZES).fill(1);
export const noDrift: Drift = { slowdown: 1, decode: ones, prefill: ones, ratios: [], tpotMs: 0 };

/** Index of a size in `Drift.decode` and `Drift.prefill`. */
export const sizeIndex = (size: number): number => Math.min(SIZES - 1, 31 - Math.clz32(Math.max(1, size)));

/** Factor on the table's cost. `size`: rows of a decode step, or positions of a chunk. */
export function driftFactor(drift: Drift, kind: WorkKind, size: number): number {
  return drift.slowdown * (drift[kind][sizeIndex(size)] ?? 1);
}

/** One decode step: how many rows leave at each exit (index as in shape.exits), and the past that attention reads. */
export interface DecodeWork {
  readonly rows: readonly number[];
  /** Positions per row, mean over the rows. */
  readonly context: number;
}

/** A run of positions of one sequence through the stages up to an exit: prefill, or catch-up. */
export interface PrefillWork {
  /** Index of the exit in shape.exits. */
  readonly exit: number;
  readonly positions: number;
  /** Positions already there. */
  readonly context: number;
  /** Positions per chunk; the last chunk is what remains. */
  readonly chunk: number;
  /** Trunk stages [from, to) that run. Absent: from the embedding on, up to the exit and with its block. */
  readonly from?: number;
  readonly to?: number;
}

/** A step as the engine runs it: either part may be missing. */
export interface Work {
  readonly decode: DecodeWork | null;
  readonly prefill: readonly PrefillWork[];
}

/** Table cost of one unit's decode: a trunk stage, then blocks by exit, last embed, head and step together. */
export function unitDecodeMs(model: CostModel, unit: number, rows: number, context: number): number {
  const { stages, blocks } = model;
  if (unit < stages.length) return cheapestAt(stages[unit]?.decode ?? [], rows, context);
  if (unit < stages.length + blocks.length)
    return cheapestAt(blocks[unit - stages.length]?.decode ?? [], rows, context);
  return [model.embed, model.head, model.step].reduce((ms, each) => ms + cheapestAt(each.decode, rows, context), 0);
}

/** Table cost of a decode step: `cost(unit, rows)` summed over the cascade, deepest rows first. */
export function cascadeMs(
  { stages, blocks, shape }: CostModel,
  rows: ArrayLike<number>,
  cost: (unit: number, rows: number) => number,
): number {
  let ms = 0;
  let passing = 0;
  let stage = stages.length;
  for (let exit = shape.exits.length - 1; exit >= 0; exit -= 1) {
    const from = shape.exits[exit]?.stage ?? 0;
    while (stage > from + 1) ms += cost((stage -= 1), passing);
    const count = rows[exit] ?? 0;
    passing += count;
    if (count > 0 && blocks[exit] != null) ms += cost(stages.length + exit, count);
  }
  while (stage > 0) ms += cost((stage -= 1), passing);
  return ms + cost(stages.length + shape.exits.length, passing);
}

/** Table cost of prefill or catch-up, chunk after chunk, without the head. */
export function prefillMs(model: CostModel, work: PrefillWork): number {
  const { exit, positions, context, chunk } = work;
  const from = work.from ?? 0;
  const to = work.to ?? (model.shape.exits[exit]?.stage ?? -1) + 1;
  let ms = from === 0 && to > 0 ? inChunks(model.embed, positions, context, chunk) : 0;
  for (let stage = from; stage < to; stage += 1) ms += inChunks(model.stages[stage], positions, context, chunk);
  return work.to === undefined ? ms + inChunks(model.blocks[exit], positions, context, chunk) : ms;
}

/** Whole chunks cost what the middle one does (cost is about linear in context), the rest is priced by itself. */
function inChunks(unit: UnitCurves | null | undefined, positions: number, context: number, chunk: number): number {
  if (unit == null || positions <= 0) return 0;
  const whole = Math.floor(positions / chunk);
  const last = cheapestAt(unit.prefill, positions - whole * chunk, context + whole * chunk);
  return whole === 0 ? last : whole * cheapestAt(unit.prefill, chunk, context + ((whole - 1) * chunk) / 2) + last;
}

/** Predicted milliseconds of a step: decode rows and prefill chunks, drift included. */
export function predictMs(model: CostModel, work: Work): number {
  let ms = 0;
  if (work.decode !== null) {
    const { rows: counts, context } = work.decode;
    const rows = counts.reduce((sum, count) => sum + count, 0);
    ms +=
      cascadeMs(model, counts, (unit, n) => unitDecodeMs(model, unit, n, context)) *
      driftFactor(model.drift, 'decode', rows);
  }
  for (const chunk of work.prefill) {
    const size = Math.min(chunk.chunk, chunk.positions);
    ms += prefillMs(model, chunk) * driftFactor(model.drift, 'prefill', size);
  }
  return ms;
}

/** Index of an exit layer in the shape. @throws Error for a layer that is no exit. */
export function exitIndex(shape: DepthShape, layer: number): number {
  let index = shape.exits.length - 1;
  while (index >= 0 && shape.exits[index]?.layer !== layer) index -= 1;
  if (index < 0) throw new Error(`exit layer ${layer} is not one of ${shape.exits.map((e) => e.layer).join(', ')}`);
  return index;
}

interface ExitEntry {
  readonly layer: number;
  readonly stage: number;
  readonly block: { readonly name: string } | null;
  readonly quality: { readonly agreement?: number | undefined };
}

/** Shape of a model folder's manifest. An exit without a measurement counts with its share of the layers. */
export function depthShape(manifest: {
  readonly stages: readonly { readonly name: string }[];
  readonly exits: readonly ExitEntry[];
}): DepthShape {
  const deepest = manifest.exits.at(-1)?.layer ?? 1;
  const exits = manifest.exits.map(({ layer, stage, block, quality }) => {
    return { layer, stage, block: block?.name ?? null, quality: quality.agreement ?? layer / deepest };
  });
  return { stages: manifest.stages.map((stage) => stage.name), exits };
}
