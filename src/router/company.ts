/**
 * The company that a sequence must expect while it decodes, if arrivals go on as they did: how many rows share its
 * steps, and how much of the time goes to others' prompts.
 *
 * Knows: demand, the cost model. Must not know: who is live now.
 */
import { type Demand, ratesAt } from './demand.js';
import type { CostModel } from './model.js';
import { planChunk } from './policy.js';
import { type StepMs, promptMs } from './steps.js';
import type { Policy } from './types.js';

export interface Company {
  readonly rows: number;
  /** What a millisecond of decoding takes by the clock, 1 where nobody prefills. */
  readonly stretch: number;
}

export const alone: Company = { rows: 0, stretch: 1 };

/** Prompts may take most of the machine, but a forecast in which decoding stands still says nothing. */
const MOST_PREFILL = 0.8;

/** Steady state at an exit (Little's law: rows = tokens per ms x ms per step). */
export function companyOf(
  demand: Demand,
  now: number,
  exit: number,
  model: CostModel,
  step: StepMs,
  slots: number,
  policy: Policy,
): Company {
  const rates = ratesAt(demand, now);
  if (rates.tokens <= 0) return alone;
  const chunk = planChunk(policy);
  const positions = policy.foresight * rates.positions;
  const prefill = Math.min(MOST_PREFILL, (positions * promptMs(model, exit, chunk, chunk)) / chunk);
  const counts = new Int32Array(model.shape.exits.length);
  let rows = 1;
  // A step costs less than twice as much for twice the rows, so this settles or runs into the slots.
  for (let i = 0; i < 12; i += 1) {
    counts[exit] = Math.ceil(rows);
    const next = Math.min(slots, (policy.foresight * rates.tokens * step(counts)) / (1 - prefill));
    if (Math.abs(next - rows) < 0.25) break;
    rows = next;
  }
  return { rows: Math.floor(rows), stretch: 1 / (1 - prefill) };
}

/** The cost of steps in which at least the company's rows run, the missing ones at the given exit. */
export function inCompany(step: StepMs, company: Company, exit: number): StepMs {
  if (company.rows === 0) return step;
  return (rows) => {
    let missing = company.rows;
    for (const count of rows) missing -= count;
    if (missing <= 0) return step(rows);
    const padded = Int32Array.from(rows);
    padded[exit] = (padded[exit] ?? 0) + missing;
    return step(padded);
  };
}
