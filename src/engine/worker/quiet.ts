/**
 * Steps in which nothing is to decide: no request arrives, waits, prefills or ends, and none has a budget. The router's plan
 * would be empty, at 0.5 ms for 256 rows.
 *
 * Must not know: how a step runs.
 */
import { hasBudget } from '../../protocol/early-end.js';
import type { Executor } from '../execution/executor.js';
import type { Sequence } from '../../scheduler/sequence.js';

/** Whether each of the running sequences decodes its next token, whatever the time is. */
export function allDecode(running: readonly Sequence[], executor: Pick<Executor, 'exit'>): boolean {
  return running.every((sequence) => {
    const { request, constraint, ending, leader, exit } = sequence;
    // A grammar may end or think, and thoughts have exits of their own.
    if ((request.grammar ?? null) !== null || constraint !== null) return false;
    if (hasBudget(request.depth.budget) || request.maxTokens === 0 || ending !== null || leader !== null) return false;
    return sequence.isDecodable(executor.exit(exit).needed);
  });
}
