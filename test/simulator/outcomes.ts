/** The outcomes of simulated requests, by the rule of reports and benches. */
import { type Ending, isKept, type Outcome as Judgement, outcomeOf, timesOf } from '../../src/protocol/outcome.js';
import type { Outcome } from './simulated-engine.js';

/** How a simulated answer ended. */
const ENDS: Readonly<Record<Outcome['reason'], Ending['end']>> = {
  length: 'whole',
  landed: 'landed',
  deadline: 'cut',
  rejected: 'refused',
};

/** The outcome of a request by the clock of its client. */
export function judged({ request, firstTokenAt, endedAt, tokens, reason }: Outcome): Judgement {
  const { arrivedAt, budget } = request;
  const times = timesOf({ arrivedAt, firstTokenAt: firstTokenAt ?? endedAt, endedAt, tokens });
  return outcomeOf({ end: ENDS[reason], isEmpty: firstTokenAt === null }, times, budget);
}

/** Whether an answer is complete and inside its budget. */
export function isMet(outcome: Outcome): boolean {
  return isKept(judged(outcome));
}

/** Whether the client may rely on the budget. */
export function isGuaranteed({ admission }: Outcome): boolean {
  return admission.kind === 'admit' && admission.serviceClass === 'guaranteed';
}
