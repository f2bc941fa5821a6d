/**
 * The cost model: the table measured at start, times the drift learnt since. It prices a step by its units.
 *
 * A cost is its table cost times `slowdown`. The slowdown follows the median of the last ratios, so one hiccup moves
 * nothing, and it rises within a second. A step's own length is the time, so no clock is needed. A decode step costs
 * its planning as well: the table lacks it, and it is the same at every depth, so no ratio could hold it.
 *
 * Knows: units, exits, rows, context. Must not know: requests and their budgets.
 */
import { at } from '../../../util/at.js';
import { type CostTable, type Curve, cheapestAt, curveOf } from './table.js';

declare const exitUnit: unique symbol;
/** Names an exit by its number of layers: in options, requests, events and metrics. */
export type ExitLayer = number & { readonly [exitUnit]?: 'layer' };
/** Names an exit by its index in `DepthShape.exits`: inside the engine, the scheduler and the cost model. */
export type ExitIndex = number & { readonly [exitUnit]?: 'index' };

/** One exit of the model, shallowest first in DepthShape. */
export interface ExitShape {
  readonly layer: ExitLayer;
  /** Index of the last trunk stage that the exit needs. */
  readonly stage: number;
  /** Cost unit of its exit block, or null where it has none. */
  readonly block: string | null;
  /** Share of full depth's right answers, 0..1. */
  readonly accuracy: number;
  /** The same share behind prompts of so many tokens, which rise; absent: `accuracy` behind all. */
  readonly accuracyByPrompt?: readonly (readonly [number, number])[];
}

/** Which units run for which exit. */
export interface DepthShape {
  /** Cost units of the trunk stages, in order. */
  readonly stages: readonly string[];
  /** Shallowest first. */
  readonly exits: readonly ExitShape[];
}

/** Full depth. */
export function deepestOf({ exits }: DepthShape): ExitIndex {
  return exits.length - 1;
}

/** One curve per kernel. */
interface UnitCurves {
  readonly decode: readonly Curve[];
  readonly prefill: readonly Curve[];
}

/** Units of every decode step, free where the table lacks them. `step` is sampling and messages. */
const SHARED = ['embed', 'head', 'step'];

export interface CostModel {
  readonly shape: DepthShape;
  /** Trunk stages in order, then exit blocks, shallowest first, as in a frontier; then those of `SHARED`. */
  readonly units: readonly UnitCurves[];
  /** By exit: the units that it needs. */
  readonly needed: readonly (readonly number[])[];
  readonly drift: Drift;
  /** Table costs that planning asked for. They never change, so every drift of a model shares them. */
  readonly memo: {
    /** [context / grain][unit][rows] */
    readonly decode: number[][][];
    /** [chunk][exit][positions / grain] */
    readonly prompts: ((number[] | undefined)[] | undefined)[];
  };
}

/**
 * @param slowdown how many times slower than the table the machine is at start
 * @throws Error when the table lacks a unit that the shape names, or has no decode or prefill point for it.
 */
export function costModel(table: CostTable, shape: DepthShape, slowdown = 1): CostModel {
  const curves = (name: string): UnitCurves => {
    const costs = table.units.filter(({ unit }) => unit === name);
    const of = (points: 'decode' | 'prefill'): Curve[] =>
      costs.flatMap((cost) => (cost[points].length > 0 ? [curveOf(cost[points])] : []));
    return { decode: of('decode'), prefill: of('prefill') };
  };
  const names = [...shape.stages];
  const needed = shape.exits.map(({ stage, block }) => {
    const stages = Array.from({ length: stage + 1 }, (_, unit) => unit);
    return block === null ? stages : [...stages, names.push(block) - 1];
  });
  const units = names.map((name) => {
    const unit = curves(name);
    if (unit.decode.length > 0 && unit.prefill.length > 0) return unit;
    throw new Error(`the cost table must have decode and prefill points for "${name}"`);
  });
  const drift = { slowdown, ratios: [], planningMs: 0 };
  return { shape, units: [...units, ...SHARED.map(curves)], needed, drift, memo: { decode: [], prompts: [] } };
}

/** How this machine differs from its table at present. */
export interface Drift {
  readonly slowdown: number;
  /** Latest ratios of actual to table cost, oldest first. */
  readonly ratios: readonly number[];
  /** Mean planning of the latest steps, ms. */
  readonly planningMs: number;
}

/** One decode step: how many rows leave at each exit (index as in shape.exits), and the past that attention reads. */
export interface DecodeWork {
  readonly rows: readonly number[];
  /** Positions per row, mean over the rows. */
  readonly context: number;
}

/** A run of positions of one sequence through the stages up to an exit: prefill, or catch-up. */
export interface PrefillWork {
  readonly exit: ExitIndex;
  readonly positions: number;
  /** Positions already there. */
  readonly context: number;
  /** Positions per chunk; the last chunk is what remains. */
  readonly chunk: number;
  /** Units that run; absent: all that the exit needs. */
  readonly units?: readonly number[];
}

/** A step as the engine runs it: either part may be missing. */
export interface Work {
  readonly decode: DecodeWork | null;
  readonly prefill: readonly PrefillWork[];
}

/** Contexts round up to whole grains, positions: under 1% of a step's cost. */
const CONTEXT_GRAIN = 32;

/** Table cost of a decode step: each unit with the rows that need it. @param rows by exit, each of this context */
function decodeTableMs({ units, needed, memo }: CostModel, rows: ArrayLike<number>, context: number): number {
  const counts = new Int32Array(units.length);
  let all = 0;
  for (let exit = 0; exit < rows.length; exit += 1) {
    const count = at(rows, exit);
    if (count > 0) for (const unit of at(needed, exit)) counts[unit] = at(counts, unit) + count;
    all += count;
  }
  counts.fill(all, -SHARED.length);
  const grain = Math.ceil(context / CONTEXT_GRAIN);
  const known = (memo.decode[grain] ??= []);
  return counts.reduce((ms, count, unit) => {
    if (count === 0) return ms;
    const ofUnit = (known[unit] ??= []);
    return ms + (ofUnit[count] ??= cheapestAt(at(units, unit).decode, count, grain * CONTEXT_GRAIN));
  }, 0);
}

/** Milliseconds of a decode step, drift and planning included. @param rows by exit @param context mean past per row */
export function decodeMs(model: CostModel, rows: ArrayLike<number>, context: number): number {
  return decodeTableMs(model, rows, context) * model.drift.slowdown + model.drift.planningMs;
}

/** Rows and context of the batch that prices a further row. */
const PRICED_ROWS = 16;
const PRICED_CONTEXT = 256;

/** Table cost of a further row of a batch, by trunk stage. */
export function rowsMs({ shape, units }: CostModel): number[] {
  return shape.stages.map((_, stage) => {
    const [few = 0, many = 0] = [1, PRICED_ROWS].map((rows) =>
      cheapestAt(at(units, stage).decode, rows, PRICED_CONTEXT),
    );
    return Math.max(0, many - few) / (PRICED_ROWS - 1);
  });
}

/** Table cost of prefill or catch-up, chunk after chunk, without the head. */
export function prefillMs(model: CostModel, work: PrefillWork): number {
  const { exit, positions, context, chunk, units = at(model.needed, exit) } = work;
  const embed = model.units.length - SHARED.length;
  const all = units[0] === 0 ? [...units, embed] : units;
  return all.reduce((ms, unit) => ms + inChunks(at(model.units, unit), positions, context, chunk), 0);
}

/** The past of each chunk is that of the ones ahead of it. */
function inChunks({ prefill }: UnitCurves, positions: number, context: number, chunk: number): number {
  let ms = 0;
  for (let done = 0; done < positions; done += chunk)
    ms += cheapestAt(prefill, Math.min(chunk, positions - done), context + done);
  return ms;
}

/** Predicted milliseconds of a step: decode rows with their planning, and prefill chunks, drift included. */
export function predictMs(model: CostModel, work: Work): number {
  return tableMs(model, work) * model.drift.slowdown + (work.decode === null ? 0 : model.drift.planningMs);
}

function tableMs(model: CostModel, { decode, prefill }: Work): number {
  const ms = decode === null ? 0 : decodeTableMs(model, decode.rows, decode.context);
  return prefill.reduce((sum, chunk) => sum + prefillMs(model, chunk), ms);
}

/** The tunables of the drift. */
export const DRIFT = {
  windowSteps: 5,
  /** Time constants, ms of busy time. */
  riseMs: 250,
  fallMs: 750,
  mostSlowdown: 20,
  /** Steps over which the mean of planning fades. */
  planningSteps: 16,
  /** Half-life of an idle machine's slowdown, ms: no step measures it. */
  idleHalfLifeMs: 10_000,
} as const;

/** The model after an idle time: a slowdown that no step confirms decays, so it rejects no request for ever. */
export function decayWhileIdle(model: CostModel, idleMs: number): CostModel {
  const { drift } = model;
  if (drift.slowdown <= 1 || !(idleMs > 0)) return model;
  const slowdown = 1 + (drift.slowdown - 1) * 2 ** (-idleMs / DRIFT.idleHalfLifeMs);
  return { ...model, drift: { ...drift, slowdown, ratios: idleMs > DRIFT.idleHalfLifeMs ? [] : drift.ratios } };
}

/**
 * The model after a finished step. A step without a cost in the table teaches nothing.
 * @param actualMs the whole step
 * @param planningMs its planning. A hiccup in it counts as no more than the rest of the step.
 */
export function observeStep(model: CostModel, work: Work, actualMs: number, planningMs: number): CostModel {
  const { drift } = model;
  const ratio = (actualMs - planningMs) / tableMs(model, work);
  if (!(ratio > 0) || !Number.isFinite(ratio)) return model;
  const ratios = [...drift.ratios, ratio].slice(-DRIFT.windowSteps);
  const median = [...ratios].sort((a, b) => a - b)[ratios.length >> 1] ?? 1;
  const target = Math.min(DRIFT.mostSlowdown, Math.max(1 / DRIFT.mostSlowdown, median));
  const gain = 1 - Math.exp(-actualMs / (target > drift.slowdown ? DRIFT.riseMs : DRIFT.fallMs));
  const slowdown = drift.slowdown + (target - drift.slowdown) * gain;
  // A step without rows plans what arrived; predictions have the planning of steps with rows.
  const planned = work.decode === null ? drift.planningMs : Math.min(planningMs, actualMs - planningMs);
  const meanMs = drift.planningMs + (planned - drift.planningMs) / DRIFT.planningSteps;
  return { ...model, drift: { slowdown, ratios, planningMs: meanMs } };
}
