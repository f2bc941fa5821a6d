/**
 * What work will cost: the table measured at start, times what was learnt since (correct.ts).
 *
 * Knows: units, exits, rows, context. Must not know: requests and their budgets.
 */
import type { CostTable } from './cost.js';
import { type Curve, costAt, curveOf } from './curve.js';
import { type Correction, factorOf, noCorrection } from './correct.js';
import type { DepthShape } from './types.js';

interface UnitCurves {
  /** One curve per kernel: the engine runs the cheaper one, so the cheaper one is the cost. */
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
  /** What a step costs besides its graphs (sampling, messages): the table's unit `step`, free where absent. */
  readonly step: UnitCurves;
  readonly correction: Correction;
}

/**
 * @param slowdown how many times slower than the table the machine is known to be now
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
    correction: { ...noCorrection, speed: slowdown },
  };
}

const cheapest = (curves: readonly Curve[], rows: number, context: number): number => {
  const [first] = curves;
  if (first === undefined) return 0;
  if (curves.length === 1) return costAt(first, rows, context);
  let least = Infinity;
  for (const curve of curves) least = Math.min(least, costAt(curve, rows, context));
  return least;
};

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

/** Uncorrected decode cost of one unit: a trunk stage, then blocks by exit, last what every row runs (embed, head, step). */
export function unitMs(model: CostModel, unit: number, rows: number, context: number): number {
  const { stages, blocks } = model;
  if (unit < stages.length) return cheapest(stages[unit]?.decode ?? [], rows, context);
  if (unit < stages.length + blocks.length) return cheapest(blocks[unit - stages.length]?.decode ?? [], rows, context);
  return [model.embed, model.head, model.step].reduce((ms, each) => ms + cheapest(each.decode, rows, context), 0);
}

/** Uncorrected decode step: `cost(unit, rows)` summed over the cascade, deepest rows first. */
export function cascadeMs(
  model: CostModel,
  rows: ArrayLike<number>,
  cost: (unit: number, rows: number) => number,
): number {
  const { stages, shape } = model;
  let ms = 0;
  let passing = 0;
  let stage = stages.length;
  for (let exit = shape.exits.length - 1; exit >= 0; exit -= 1) {
    const from = shape.exits[exit]?.stage ?? 0;
    while (stage > from + 1) ms += cost((stage -= 1), passing);
    const count = rows[exit] ?? 0;
    passing += count;
    if (count > 0 && model.blocks[exit] != null) ms += cost(stages.length + exit, count);
  }
  while (stage > 0) ms += cost((stage -= 1), passing);
  return ms + cost(stages.length + shape.exits.length, passing);
}

/** Uncorrected milliseconds of prefill or catch-up, chunk after chunk, without the head. */
export function prefillMs(model: CostModel, work: PrefillWork): number {
  const { exit, positions, context, chunk } = work;
  const from = work.from ?? 0;
  const to = work.to ?? (model.shape.exits[exit]?.stage ?? -1) + 1;
  let ms = from === 0 && to > 0 ? inChunks(model.embed, positions, context, chunk) : 0;
  for (let stage = from; stage < to; stage += 1) ms += inChunks(model.stages[stage], positions, context, chunk);
  return work.to === undefined ? ms + inChunks(model.blocks[exit], positions, context, chunk) : ms;
}

/** Uncorrected prefill of one unit (as in `unitMs`), the embedding along with the first stage. */
export function unitPrefillMs(
  model: CostModel,
  unit: number,
  positions: number,
  context: number,
  chunk: number,
): number {
  const { stages, blocks } = model;
  const curves = unit < stages.length ? stages[unit] : blocks[unit - stages.length];
  const ms = inChunks(curves, positions, context, chunk);
  return unit === 0 ? inChunks(model.embed, positions, context, chunk) + ms : ms;
}

/** Whole chunks cost what the middle one does (cost is about linear in context), the rest is priced by itself. */
function inChunks(unit: UnitCurves | null | undefined, positions: number, context: number, chunk: number): number {
  if (unit == null || positions <= 0) return 0;
  const whole = Math.floor(positions / chunk);
  const rest = positions - whole * chunk;
  const last = cheapest(unit.prefill, rest, context + whole * chunk);
  return whole === 0 ? last : whole * cheapest(unit.prefill, chunk, context + ((whole - 1) * chunk) / 2) + last;
}

/** Predicted milliseconds of a step: decode rows and prefill chunks, corrected by what was learnt. */
export function predictMs(model: CostModel, work: Work): number {
  let ms = 0;
  if (work.decode !== null) {
    const { rows: counts, context } = work.decode;
    const rows = counts.reduce((sum, count) => sum + count, 0);
    ms +=
      cascadeMs(model, counts, (unit, n) => unitMs(model, unit, n, context)) *
      factorOf(model.correction, 'decode', rows);
  }
  for (const chunk of work.prefill) {
    const size = Math.min(chunk.chunk, chunk.positions);
    ms += prefillMs(model, chunk) * factorOf(model.correction, 'prefill', size);
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

interface ExitLike {
  readonly layer: number;
  readonly stage: number;
  readonly block: { readonly name: string } | null;
  readonly quality: { readonly agreement?: number | undefined };
}

/** Shape of a model folder's manifest. An exit that nobody measured counts with its share of the layers. */
export function depthShape(manifest: {
  readonly stages: readonly { readonly name: string }[];
  readonly exits: readonly ExitLike[];
}): DepthShape {
  const deepest = manifest.exits.at(-1)?.layer ?? 1;
  const exits = manifest.exits.map(({ layer, stage, block, quality }) => {
    return { layer, stage, block: block?.name ?? null, quality: quality.agreement ?? layer / deepest };
  });
  return { stages: manifest.stages.map((stage) => stage.name), exits };
}
