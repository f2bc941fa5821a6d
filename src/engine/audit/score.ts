/**
 * Reads the distributions of a chunk of an answer: those of full depth, and those of a probed exit.
 *
 * Must not know: scheduling, slots.
 */
import type { SelectedRow, States } from '../model/head.js';
import type { Dry } from '../model/manifest.js';
import type { Executor } from '../execution/executor.js';
import { adjust, probabilityOf } from '../sampling/sampler.js';
import type { AuditedToken } from '../../protocol/index.js';
import { changesLogits } from '../../protocol/sampling-rules.js';
import { type AuditJob, countsBefore, rulesAt } from './job.js';

/**
 * The KL is measured at every so many positions of an answer: it reads all logits of both exits, a millisecond each.
 */
const KL_INTERVAL = 8;

/** A probed exit's most likely token after a position, and all its logits where the position is in the sample. */
export interface Probed {
  readonly best: number;
  readonly all: { readonly logits: Float32Array; readonly lse: number } | null;
}

/** Runs the head over positions [first, last), as many at a time as it has rows, under the answer's rules. */
function withLogits(
  executor: Executor,
  job: AuditJob,
  states: States,
  [first, last]: readonly [number, number],
  read: (index: number, row: number, selected: SelectedRow) => void,
): void {
  const { head, model } = executor;
  const { temperature } = job.request.sampling;
  for (let at = first; at < last; at += model.limits.maxRows) {
    const rows = Math.min(model.limits.maxRows, last - at);
    const start = at + 1 - job.promptLength;
    states.toHead(at, rows);
    const counts = countsBefore(job, start);
    for (let row = 0; row < rows; row++) {
      const rules = rulesAt(job, start + row, dryOf(executor, job, start + row));
      if (changesLogits(rules)) {
        const logits = head.fullLogits(row);
        adjust(logits, rules, counts);
        head.replaceLogits(row, logits);
      }
      const token = job.tokens[at + row + 1] ?? 0;
      counts.answer.set(token, (counts.answer.get(token) ?? 0) + 1);
      head.targets[row] = BigInt(token);
    }
    head.inverseTemperatures.fill(temperature > 0 ? 1 / temperature : 1, 0, rows);
    head.choose(0, rows);
    for (let row = 0; row < rows; row++) read(start + row, row, head.selected(row));
  }
}

/** The DRY rule under which a token was written. */
function dryOf(executor: Executor, { request, exits }: AuditJob, index: number): Dry | null {
  const rule = request.sampling.dry ?? executor.exit(exits[index] ?? 0).dry;
  return rule !== null && rule.multiplier > 0 ? rule : null;
}

/** An exit's choices after positions [first, last). */
export function probedTokens(
  executor: Executor,
  job: AuditJob,
  states: States,
  range: readonly [number, number],
): Probed[] {
  const probed: Probed[] = [];
  withLogits(executor, job, states, range, (index, row, { ids, lse }) => {
    const all = index % KL_INTERVAL === 0 ? { logits: executor.head.fullLogits(row).slice(), lse } : null;
    probed.push({ best: Number(ids[0]), all });
  });
  return probed;
}

/**
 * The token after each position [first, last), under full depth's distribution.
 * @param probed the probed exit's choices after the same positions; they count in the job
 */
export function auditedTokens(
  executor: Executor,
  job: AuditJob,
  states: States,
  range: readonly [number, number],
  probed: readonly Probed[],
): AuditedToken[] {
  const audited: AuditedToken[] = [];
  const deepest = executor.units.deepest;
  withLogits(executor, job, states, range, (index, row, selected) => {
    const token = job.tokens[job.promptLength + index] ?? 0;
    const place = selected.ids.indexOf(BigInt(token));
    const best = Number(selected.ids[0]);
    const probe = probed[audited.length];
    if (probe !== undefined) {
      job.probed++;
      if (probe.best === best) job.agreeing++;
    }
    if (probe?.all != null) {
      job.kl += divergence(executor.head.fullLogits(row), selected.lse, probe.all.logits, probe.all.lse);
      job.compared++;
    }
    audited.push({
      index,
      token,
      best,
      exit: executor.exit(job.exits[index] ?? deepest).layer,
      rank: place < 0 ? null : place + 1,
      logprob: selected.target - selected.lse,
      bestLogprob: (selected.values[0] ?? NaN) - selected.lse,
      probability: probabilityOf(selected, job.request.sampling, token, selected.target),
    });
  });
  return audited;
}

/** KL of one distribution to another in nats, from logits and their log-sum-exp. Excluded tokens add nothing. */
export function divergence(p: Float32Array, lseP: number, q: Float32Array, lseQ: number): number {
  let sum = lseQ - lseP;
  for (let id = 0; id < p.length; id++) {
    const logit = p[id] ?? -Infinity;
    if (logit > -Infinity) sum += Math.exp(logit - lseP) * (logit - (q[id] ?? -Infinity));
  }
  return Math.max(0, sum);
}
