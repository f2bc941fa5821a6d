/**
 * Logs each step that takes far longer than its prediction, at level debug, with the parts of its time.
 *
 * Must not know: requests, HTTP.
 */
import type { Engine } from '../engine-client/engine.js';
import type { StepMessage } from '../../protocol/index.js';
import type { Logger } from './log.js';

/** Actual over predicted time of a slow step. The load of other processes alone rarely reaches it. */
const SLOW = 3;

/** @returns the line's fields, or null for a step that is not slow */
export function slowStep({ work, tokens, load }: StepMessage): Record<string, unknown> | null {
  if (work === null || work.predictedMs <= 0 || work.cycleMs <= SLOW * work.predictedMs) return null;
  const rounded = (ms: number): number => Math.round(ms * 100) / 100;
  const parts = Object.entries(work.partMs).map(([part, ms]) => [part, rounded(ms)] as const);
  return {
    cycleMs: rounded(work.cycleMs),
    predictedMs: rounded(work.predictedMs),
    partMs: Object.fromEntries(parts),
    tokens: tokens.length,
    prefillTokens: work.prefillTokens,
    catchUpTokens: work.catchUpTokens,
    running: load.running,
    waiting: load.waiting,
  };
}

export function logSlowSteps(engine: Pick<Engine, 'on'>, log: Logger): void {
  engine.on('step', (message) => {
    const fields = slowStep(message);
    if (fields !== null) log.debug(fields, 'slow step');
  });
}
