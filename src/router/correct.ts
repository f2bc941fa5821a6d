/**
 * Online correction of the cost model: predictions follow the machine's mood without chasing its noise.
 *
 * Knows: predicted and actual milliseconds of past steps. Must not know: clocks (a step's own length is the time).
 *
 * cost = measured at start * speed * band. `speed` is the machine as a whole, fast: a slow spell raises it within
 * a second, and it comes back a little slower (being late costs more than being careful). It follows the median
 * of the last ratios, so a single hiccup moves nothing. `bands` are what the table has wrong for a kind of work and
 * a size (powers of two), learnt slowly and kept within bounds.
 */

export type WorkKind = 'decode' | 'prefill';

export interface Correction {
  readonly speed: number;
  readonly decode: readonly number[];
  readonly prefill: readonly number[];
  /** Latest ratios of actual to table * band, oldest first, at most WINDOW. */
  readonly ratios: readonly number[];
  /** Busy milliseconds per decode step lately, others' prompts included: the pace that decoding sequences get; 0: unknown. */
  readonly paceMs: number;
}

const WINDOW = 5;
/** Time constants, ms of busy time. */
const UP = 250;
const DOWN = 750;
const BAND = 4_000;
const SHARE = 3_000;
/** Decode steps per ms below which a pace says nothing. */
const SLOWEST = 1e-4;
const BANDS = 12;
/** No table is wrong by more than that in one band alone; more is the machine, and speed takes it. */
const BAND_LIMIT = 1.6;
const SPEED_LIMIT = 20;

/** An idle machine's slowness is worth half as much each so long, ms: nothing tells whether it is slow still. */
const DOUBTED = 10_000;

const ones = (): number[] => new Array<number>(BANDS).fill(1);

export const noCorrection: Correction = {
  speed: 1,
  decode: ones(),
  prefill: ones(),
  ratios: [],
  paceMs: 0,
};

const bandOf = (size: number): number => Math.min(BANDS - 1, 31 - Math.clz32(Math.max(1, size)));
const clamp = (value: number, limit: number): number => Math.min(limit, Math.max(1 / limit, value));

/** After so long without a step: a slow spell that nobody measures any more refuses nobody for ever. */
export function rested(correction: Correction, idleMs: number): Correction {
  if (correction.speed <= 1 || !(idleMs > 0)) return correction;
  const speed = 1 + (correction.speed - 1) * 2 ** (-idleMs / DOUBTED);
  // After that long, the next steps alone say how fast it is.
  return { ...correction, speed, ratios: idleMs > DOUBTED ? [] : correction.ratios };
}

/** What to multiply the table's cost by. `size`: rows of a decode step, or positions of a chunk. */
export function factorOf(correction: Correction, kind: WorkKind, size: number): number {
  return correction.speed * (correction[kind][bandOf(size)] ?? 1);
}

/** One part of a finished step, with the table's uncorrected cost. */
export interface CorrectedPart {
  readonly kind: WorkKind;
  readonly size: number;
  readonly tableMs: number;
}

/**
 * Learns from one finished step of several parts. Steps without a cost in the table teach nothing.
 * @param waited whether it kept anybody else from going on
 */
export function learn(
  correction: Correction,
  parts: readonly CorrectedPart[],
  actualMs: number,
  waited = false,
): Correction {
  const expected = parts.map((part) => part.tableMs * (correction[part.kind][bandOf(part.size)] ?? 1));
  const total = expected.reduce((sum, ms) => sum + ms, 0);
  if (!(total > 0) || !(actualMs > 0) || !Number.isFinite(actualMs)) return correction;

  const ratios = [...correction.ratios, actualMs / total].slice(-WINDOW);
  const target = clamp([...ratios].sort((a, b) => a - b)[ratios.length >> 1] ?? 1, SPEED_LIMIT);
  const gain = 1 - Math.exp(-actualMs / (target > correction.speed ? UP : DOWN));
  const speed = correction.speed + (target - correction.speed) * gain;

  // What speed doesn't explain is the table's own error, shared among the parts by their weight.
  const residual = clamp(actualMs / (total * speed), 1.25);
  const bands = { decode: [...correction.decode], prefill: [...correction.prefill] };
  parts.forEach((part, i) => {
    const weight = (expected[i] ?? 0) / total;
    const band = bandOf(part.size);
    const old = bands[part.kind][band] ?? 1;
    const step = (residual - 1) * weight * (1 - Math.exp((-actualMs * weight) / BAND));
    bands[part.kind][band] = clamp(old * (1 + step), BAND_LIMIT);
  });
  return { speed, ...bands, ratios, paceMs: paceAfter(correction.paceMs, parts, actualMs, waited) };
}

/** The pace after a step. A prompt that runs alone says nothing of it, nor does the time before anybody decoded. */
function paceAfter(paceMs: number, parts: readonly CorrectedPart[], actualMs: number, waited: boolean): number {
  const steps = parts.some((part) => part.kind === 'decode') ? 1 : 0;
  if (steps === 0 && (!waited || paceMs === 0)) return paceMs;
  // Steps per millisecond average over time as such; their inverse is the pace.
  const rate = paceMs === 0 ? steps / actualMs : 1 / paceMs;
  const share = 1 - Math.exp(-actualMs / SHARE);
  return 1 / Math.max(SLOWEST, rate + (steps / actualMs - rate) * share);
}
