/** Measures the router's time for a step with 64 live requests, against the time of the step. */
import { performance } from 'node:perf_hooks';
import { stateOf, viewOf } from '../../src/engine/worker/views.js';
import { GREEDY } from '../greedy-request.js';
import { Sequence } from '../../src/engine/sequence.js';
import { Slot } from '../../src/engine/slot.js';
import type { CostTable } from '../../src/cost/table.js';
import { type DepthShape, costModel, predictMs } from '../../src/cost/model.js';
import { Router, type StepHost, defaultPolicy } from '../../src/router/index.js';

export interface RouterTime {
  readonly live: number;
  /** Mean milliseconds of a step's planning (`stepMs`) and of an arrival's admission (`admitMs`). */
  readonly stepMs: number;
  readonly admitMs: number;
  /** Arrivals per step; as many answers end. */
  readonly arrivals: number;
  /** Time of a step with all rows at the shallowest and at the deepest exit. */
  readonly shallowStepMs: number;
  readonly deepStepMs: number;
}

const WARM_UP_STEPS = 200;
const MEASURED_STEPS = 600;
/** Steps to prefill a prompt. */
const PROMPT_STEPS = 8;
const ANSWER_TOKENS = 90;

/** Runs answers of equal length with evenly spaced starts, so that one ends every few steps, with various budgets. */
export function routerTime(table: CostTable, shape: DepthShape, live = 64): RouterTime {
  const model = costModel(table, shape);
  const layers = shape.exits.map(({ layer }) => layer);
  const rows = (exit: number): number[] => layers.map((_, i) => (i === exit ? live : 0));
  const stepMs = (exit: number): number =>
    predictMs(model, { decode: { rows: rows(exit), context: 300 }, prefill: [] });
  const deepStepMs = stepMs(layers.length - 1);
  const router = new Router(shape, table, defaultPolicy);
  let count = 0;
  let now = 0;
  const arrive = (): Sequence => {
    const number = count++;
    const totalMs = (ANSWER_TOKENS + PROMPT_STEPS) * deepStepMs * (0.5 + (number % 5) / 2);
    const sequence = new Sequence(
      {
        type: 'generate',
        id: `r${number}`,
        arrivedAt: now,
        maxTokens: ANSWER_TOKENS,
        minTokens: 0,
        stopTokens: [2],
        prompt: Array.from({ length: 100 + ((number * 37) % 300) }, (_, i) => i),
        sampling: GREEDY,
        logprobs: null,
        promptLogprobs: null,
        lengthGroup: { kind: 'chat', key: null },
        depth: {
          minExit: layers[0] ?? 1,
          maxExit: layers.at(-1) ?? 1,
          budget: { totalMs, ttftMs: null, tpotMs: null, onMiss: 'land' },
        },
      },
      layers.length - 1,
    );
    sequence.slot = new Slot(0, shape.stages.length + shape.exits.filter(({ block }) => block !== null).length);
    return sequence;
  };
  const timed = <T>(work: () => T): { value: T; ms: number } => {
    const start = performance.now();
    const value = work();
    return { value, ms: performance.now() - start };
  };

  const sequences: Sequence[] = [];
  const context = (at: number) => {
    return { slots: live, live: sequences, waiting: [], now: at, sentenceTokens: 24, kvPositions: 100_000 };
  };
  const none = (): void => undefined;
  const host: StepHost = {
    state: () => stateOf(context(now), shape),
    arrivals: () => [],
    decide: () => ({ queued: [], next: [] }),
    ...{ endDue: none, start: none, endOverdue: none },
    apply: (exits) => {
      for (const { id, exit } of exits) {
        const sequence = sequences.find((each) => each.id === id);
        if (sequence !== undefined) sequence.exit = layers.indexOf(exit);
      }
    },
    select: () => ({ decode: null, prefill: [] }),
  };
  let planned = 0;
  let admitted = 0;
  let arrivals = 0;
  for (let step = 0; step < WARM_UP_STEPS + MEASURED_STEPS; step++) {
    const isMeasured = step >= WARM_UP_STEPS;
    // Starts are evenly spread over the steps of an answer.
    while (sequences.length < Math.min(live, 1 + (step * live) / (PROMPT_STEPS + ANSWER_TOKENS))) {
      const sequence = arrive();
      const { value, ms } = timed(() => router.admit([viewOf(sequence, shape)], stateOf(context(now), shape)));
      if (isMeasured) admitted += ms;
      if (isMeasured) arrivals++;
      sequence.admission = value[0] ?? null;
      sequences.push(sequence);
    }
    const { ms } = timed(() => {
      router.step(host);
    });
    if (isMeasured) planned += ms;
    now += deepStepMs;
    sequences.forEach((sequence) => {
      advance(sequence, unitsOf(shape, sequence.exit), now);
    });
    const left = sequences.filter(({ generated }) => generated < ANSWER_TOKENS);
    sequences.splice(0, sequences.length, ...left);
  }
  return {
    live,
    stepMs: planned / MEASURED_STEPS,
    admitMs: admitted / Math.max(1, arrivals),
    arrivals: arrivals / MEASURED_STEPS,
    shallowStepMs: stepMs(0),
    deepStepMs,
  };
}

/** Prefills a part of the prompt in every unit of the exit. The step that ends the prompt also emits a token. */
function advance(sequence: Sequence, units: readonly number[], now: number): void {
  const { slot, promptLength, tokens } = sequence;
  if (slot === null) return;
  const last = tokens.length - 1;
  const end = Math.min(last, slot.length + Math.ceil(promptLength / PROMPT_STEPS));
  for (const unit of units) slot.reach(unit, end === last ? end + 1 : end);
  if (end === last) sequence.accept(1, now);
}

/** Units of a slot that an exit needs: its stages and its block. Blocks follow all stages. */
function unitsOf({ stages, exits }: DepthShape, exit: number): number[] {
  const { stage, block } = exits[exit] ?? { stage: 0, block: null };
  const units = Array.from({ length: stage + 1 }, (_, unit) => unit);
  const before = exits.slice(0, exit).filter((each) => each.block !== null).length;
  return block === null ? units : [...units, stages.length + before];
}
