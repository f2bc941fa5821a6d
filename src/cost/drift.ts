/**
 * Drift of the cost model: predictions follow the machine without chasing its noise.
 *
 * cost = table * slowdown * bySize. `slowdown` is the machine as a whole: it follows the median of the last ratios, so
 * one hiccup moves nothing, and rises within a second. `bySize` is the table's own error for a kind of work and a size
 * (powers of two), learnt slowly and bounded. A step's own length is the time, so no clock is needed.
 */
import { type CostModel, type Work, type WorkKind, cascadeMs, prefillMs, sizeIndex, unitDecodeMs } from './model.js';

const WINDOW_STEPS = 5;
/** Time constants, ms of busy time. */
const RISE_MS = 250;
const FALL_MS = 750;
const BY_SIZE_MS = 4_000;
const TPOT_MS = 3_000;
/** A longer step teaches no more than this one: a stall is no cost, ms. */
const LONG_STEP_MS = 100;
/** Decode steps per ms below which an observed TPOT says nothing. */
const LEAST_STEP_RATE = 1e-4;
/** One size is never wrong by more than that alone; more is the machine, and slowdown takes it. */
const BY_SIZE_LIMIT = 1.6;
const SLOWDOWN_LIMIT = 20;
/** Half-life of an idle machine's slowdown, ms: no step measures it. */
const IDLE_HALF_LIFE_MS = 10_000;

const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(1 / limit, value));

/** The model after an idle time: a slowdown that no step confirms decays, so it rejects no request for ever. */
export function decayWhileIdle(model: CostModel, idleMs: number): CostModel {
  const { drift } = model;
  if (drift.slowdown <= 1 || !(idleMs > 0)) return model;
  const slowdown = 1 + (drift.slowdown - 1) * 2 ** (-idleMs / IDLE_HALF_LIFE_MS);
  return { ...model, drift: { ...drift, slowdown, ratios: idleMs > IDLE_HALF_LIFE_MS ? [] : drift.ratios } };
}

/**
 * The model after a finished step. A step without a cost in the table teaches nothing.
 * @param isContended whether another sequence waited for the step
 */
export function observeStep(model: CostModel, work: Work, actualMs: number, isContended = false): CostModel {
  const { drift } = model;
  const parts = partsOf(model, work);
  const expected = parts.map((part) => part.tableMs * (drift[part.kind][sizeIndex(part.size)] ?? 1));
  const total = expected.reduce((sum, ms) => sum + ms, 0);
  if (!(total > 0) || !(actualMs > 0) || !Number.isFinite(actualMs)) return model;

  const ratios = [...drift.ratios, actualMs / total].slice(-WINDOW_STEPS);
  const target = clamp([...ratios].sort((a, b) => a - b)[ratios.length >> 1] ?? 1, SLOWDOWN_LIMIT);
  const gain = 1 - Math.exp(-actualMs / (target > drift.slowdown ? RISE_MS : FALL_MS));
  const slowdown = drift.slowdown + (target - drift.slowdown) * gain;

  // The parts share what a settled slowdown leaves unexplained, by their weight.
  const isSettled = Math.abs(Math.log(target / slowdown)) < 0.2;
  const residual = isSettled ? clamp(actualMs / (total * slowdown), 1.25) : 1;
  const bySize = { decode: [...drift.decode], prefill: [...drift.prefill] };
  parts.forEach(({ kind, size }, i) => {
    const weight = (expected[i] ?? 0) / total;
    const old = bySize[kind][sizeIndex(size)] ?? 1;
    const step = (residual - 1) * weight * (1 - Math.exp((-Math.min(actualMs, LONG_STEP_MS) * weight) / BY_SIZE_MS));
    bySize[kind][sizeIndex(size)] = clamp(old * (1 + step), BY_SIZE_LIMIT);
  });
  const tpotMs = tpotAfter(drift.tpotMs, work, actualMs, isContended);
  return { ...model, drift: { slowdown, ...bySize, ratios, tpotMs } };
}

interface Part {
  readonly kind: WorkKind;
  readonly size: number;
  readonly tableMs: number;
}

function partsOf(model: CostModel, { decode, prefill }: Work): Part[] {
  const parts: Part[] = prefill.map((work) => {
    return { kind: 'prefill', size: Math.min(work.positions, work.chunk), tableMs: prefillMs(model, work) };
  });
  if (decode !== null) {
    const tableMs = cascadeMs(model, decode.rows, (unit, rows) => unitDecodeMs(model, unit, rows, decode.context));
    parts.push({ kind: 'decode', size: decode.rows.reduce((sum, count) => sum + count, 0), tableMs });
  }
  return parts;
}

/** A prompt that runs alone says nothing of the TPOT, nor does the time before the first decode step. */
function tpotAfter(tpotMs: number, { decode }: Work, actualMs: number, isContended: boolean): number {
  const steps = decode === null ? 0 : 1;
  if (steps === 0 && (!isContended || tpotMs === 0)) return tpotMs;
  // Steps per millisecond average over time as such; their inverse is the TPOT.
  const rate = tpotMs === 0 ? steps / actualMs : 1 / tpotMs;
  const share = 1 - Math.exp(-actualMs / TPOT_MS);
  return 1 / Math.max(LEAST_STEP_RATE, rate + (steps / actualMs - rate) * share);
}
