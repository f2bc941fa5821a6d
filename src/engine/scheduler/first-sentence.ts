/**
 * The probability that an answer that lands has a whole sentence by its deadline, as the forecast of the batch has it.
 *
 * Pure functions. Must not know: texts, promises.
 */
import { type ExitIndex, at } from './cost/model.js';
import { type Exits, forecast } from './exit-choice.js';
import type { BatchOutcome } from './forecast.js';
import type { PlannedRequest } from './planned-request.js';
import type { Policy } from './policy.js';
import type { Sequence } from './sequence.js';
import type { Snapshot } from './snapshot.js';

/** Probabilities 0..1 by sequence, of those that land. */
export type FirstSentences = ReadonlyMap<Sequence, number>;

/** The times of a request as the forecast has them. */
export interface Pace {
  /** From the present. */
  readonly firstTokenAt: number;
  readonly tokenMs: number;
  /** Decode steps behind the first token until the deadline; below 0 for a first token behind it. */
  readonly steps: number;
}

export function paceOf({ now }: Snapshot, self: PlannedRequest, exit: ExitIndex, outcome: BatchOutcome): Pace {
  const { firstTokenAt: firstAt, endsAt, tokens } = outcome;
  const isRun = endsAt < Infinity && firstAt < Infinity;
  const tokenMs = isRun && tokens > 1 ? (endsAt - firstAt) / (tokens - 1) : self.stepMs(exit);
  const firstTokenAt = firstAt < Infinity ? firstAt : self.prefillMs(exit);
  return { firstTokenAt, tokenMs, steps: (self.deadlines.end - now - firstTokenAt) / Math.max(1e-3, tokenMs) };
}

/** The probabilities of all requests that land. @param exits of the requests that begin */
export function firstSentences(state: Snapshot, exits: Exits): FirstSentences {
  const outcomes = forecast(state, exits);
  const found = new Map<Sequence, number>();
  for (const [i, self] of state.requests.entries()) {
    if (!self.sequence.lands) continue;
    const exit = exits.get(self) ?? self.currentExit;
    const outcome = at(outcomes, i);
    const isLeftOut = self.isPrefilling && outcome.firstTokenAt === Infinity;
    const { steps } = paceOf(state, self, exit, outcome);
    found.set(self.sequence, isLeftOut ? 0 : self.landsWithin(exit, steps));
  }
  return found;
}

/** Whether new requests have a sentence with useful probability, and cost the others fewer sentences than they add. */
export function isUseful(
  added: readonly Sequence[],
  before: FirstSentences,
  after: FirstSentences,
  { leastSentence }: Policy,
): boolean {
  const own = added.map((each) => after.get(each) ?? 1);
  if (own.some((probability) => probability < leastSentence)) return false;
  let lost = 0;
  for (const [sequence, probability] of before) lost += probability - (after.get(sequence) ?? probability);
  return own.reduce((sum, probability) => sum + probability, 0) > lost;
}
