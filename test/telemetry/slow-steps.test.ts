/** The debug line of a slow step, and the steps without one. */
import t from 'tap';
import type { StepMessage } from '../../src/protocol/index.js';
import { slowStep } from '../../src/gateway/telemetry/slow-steps.js';

function step(cycleMs: number, predictedMs: number): StepMessage {
  return {
    ...{ type: 'step', at: 100, planned: [], rejected: [], prompts: [], ended: [] },
    tokens: [{ id: 'a', token: 1, exit: 30, logprobs: null }],
    load: { running: 2, waiting: 3, kvUsed: 0, kvCached: 0, waitMs: 0 },
    work: {
      ...{ ms: cycleMs, cycleMs, predictedMs, prefillTokens: 7, catchUpTokens: 0 },
      ...{ exitMs: [cycleMs], slowdown: 1 },
      partMs: { planning: 1, memory: 0, prefill: 0, decode: 20.12345, head: 2, sampling: 0.5, messages: 1 },
    },
  };
}

void t.test('over three times the prediction a step has a line with its parts', (t) => {
  t.same(slowStep(step(31, 10)), {
    ...{ cycleMs: 31, predictedMs: 10, tokens: 1, prefillTokens: 7, catchUpTokens: 0, running: 2, waiting: 3 },
    partMs: { planning: 1, memory: 0, prefill: 0, decode: 20.12, head: 2, sampling: 0.5, messages: 1 },
  });
  t.equal(slowStep(step(30, 10)), null);
  t.equal(slowStep(step(30, 0)), null, 'without a prediction');
  t.equal(slowStep({ ...step(31, 10), work: null }), null, 'without work');
  t.end();
});
