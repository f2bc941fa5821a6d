/**
 * Drift of the cost model: predictions follow the machine without chasing its noise.
 *
 * A cost is its table cost times `slowdown`. The slowdown follows the median of the last ratios, so one hiccup moves
 * nothing, and it rises within a second. A step's own length is the time, so no clock is needed.
 */
import { type CostModel, type Work, predictMs } from './model.js';

const WINDOW_STEPS = 5;
/** Time constants, ms of busy time. */
const RISE_MS = 250;
const FALL_MS = 750;
const SLOWDOWN_LIMIT = 20;
/** Half-life of an idle machine's slowdown, ms: no step measures it. */
const IDLE_HALF_LIFE_MS = 10_000;

/** The model after an idle time: a slowdown that no step confirms decays, so it rejects no request for ever. */
export function decayWhileIdle(model: CostModel, idleMs: number): CostModel {
  const { drift } = model;
  if (drift.slowdown <= 1 || !(idleMs > 0)) return model;
  const slowdown = 1 + (drift.slowdown - 1) * 2 ** (-idleMs / IDLE_HALF_LIFE_MS);
  return { ...model, drift: { ...drift, slowdown, ratios: idleMs > IDLE_HALF_LIFE_MS ? [] : drift.ratios } };
}

/** The model after a finished step. A step without a cost in the table teaches nothing. */
export function observeStep(model: CostModel, work: Work, actualMs: number): CostModel {
  const { drift } = model;
  const ratio = (drift.slowdown * actualMs) / predictMs(model, work);
  if (!(ratio > 0) || !Number.isFinite(ratio)) return model;
  const ratios = [...drift.ratios, ratio].slice(-WINDOW_STEPS);
  const median = [...ratios].sort((a, b) => a - b)[ratios.length >> 1] ?? 1;
  const target = Math.min(SLOWDOWN_LIMIT, Math.max(1 / SLOWDOWN_LIMIT, median));
  const gain = 1 - Math.exp(-actualMs / (target > drift.slowdown ? RISE_MS : FALL_MS));
  const slowdown = drift.slowdown + (target - drift.slowdown) * gain;
  return { ...model, drift: { slowdown, ratios } };
}
