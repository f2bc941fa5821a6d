/**
 * Reads the distributions of a chunk of an answer: those of full depth, and the choices of a probed exit.
 *
 * Must not know: scheduling, slots.
 */
import type { States } from '../../model/head.js';
import type { Executor } from '../execution/executor.js';
import { probabilityOf } from '../sampling/sampler.js';
import type { AuditedToken } from '../protocol.js';
import { type AuditJob, penaltiesAt } from './job.js';

/** Runs the head over positions [first, last), as many at a time as it has rows, under the answer's penalties. */
function withLogits(
  executor: Executor,
  job: AuditJob,
  states: States,
  [first, last]: readonly [number, number],
  read: (position: number, row: number) => void,
): void {
  const { head, model } = executor;
  for (let at = first; at < last; at += model.limits.maxRows) {
    const rows = Math.min(model.limits.maxRows, last - at);
    states.toHead(at, rows);
    for (let row = 0; row < rows; row++) {
      const index = at + row + 1 - job.promptLength;
      head.applyPenalties(row, penaltiesAt(job, index, ruleOf(executor, job, index)));
    }
    const { temperature } = job.request.sampling;
    head.inverseTemperatures.fill(temperature > 0 ? 1 / temperature : 1, 0, rows);
    for (let row = 0; row < rows; row++) head.targets[row] = BigInt(job.tokens[at + row + 1] ?? 0);
    head.choose(0, rows);
    for (let row = 0; row < rows; row++) read(at + row, row);
  }
}

/** The DRY rule under which a token was written. */
function ruleOf(executor: Executor, { request, exits }: AuditJob, index: number) {
  const rule = request.sampling.dry ?? executor.exit(exits[index] ?? 0).dry;
  return rule !== null && rule.multiplier > 0 ? rule : null;
}

/** An exit's most likely tokens after positions [first, last). */
export function choicesOf(
  executor: Executor,
  job: AuditJob,
  states: States,
  range: readonly [number, number],
): number[] {
  const choices: number[] = [];
  withLogits(executor, job, states, range, (_, row) => {
    choices.push(Number(executor.head.selected(row).ids[0]));
  });
  return choices;
}

/** The token after each position [first, last), under full depth's distribution. */
export function auditedTokens(
  executor: Executor,
  job: AuditJob,
  states: States,
  range: readonly [number, number],
): AuditedToken[] {
  const audited: AuditedToken[] = [];
  const deepest = executor.units.exits.length - 1;
  withLogits(executor, job, states, range, (position, row) => {
    const selected = executor.head.selected(row);
    const index = position + 1 - job.promptLength;
    const token = job.tokens[position + 1] ?? 0;
    const place = selected.ids.indexOf(BigInt(token));
    audited.push({
      index,
      token,
      exit: executor.exit(job.exits[index] ?? deepest).layer,
      best: Number(selected.ids[0]),
      rank: place < 0 ? null : place + 1,
      logprob: selected.target - selected.lse,
      bestLogprob: (selected.values[0] ?? NaN) - selected.lse,
      probability: probabilityOf(selected, job.request.sampling, token, selected.target),
    });
  });
  return audited;
}
