/** Engines for tests: the real model (or a converted tiny one), without a process around it. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { calibrationPlan, calibrate } from '../../src/engine/calibration/calibrate.js';
import { type CoreOptions, EngineCore } from '../../src/engine/worker/core.js';
import type { TokenTexts } from '../../src/engine/landing/token-texts.js';
import { Executor } from '../../src/engine/execution/executor.js';
import { loadModel } from '../../src/engine/execution/load-model.js';
import { chunksOnly, type Row } from '../../src/engine/execution/step-batch.js';
import type {
  EndedEvent,
  OnMiss,
  RejectedEvent,
  SequenceRequest,
  StepMessage,
  TokenEvent,
} from '../../src/protocol/index.js';
import type { EngineOptions } from '../../src/protocol/engine-options.js';
import type { States } from '../../src/engine/model/head.js';
import { HeadRunner } from '../../src/engine/model/head-runner.js';
import { StagedModel } from '../../src/engine/model/staged-model.js';
import type { Slot } from '../../src/engine/scheduler/kv/units.js';
import { monotonicMs } from '../../src/util/clock.js';
import { chunkSizes, defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { greedy } from '../../bench/greedy-request.js';
import { answerOf } from './answers.js';
import type { CostTable } from '../../src/engine/scheduler/cost/table.js';

export { greedy };

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** The embedded model, or the folder that SORTIE_TEST_MODEL names. */
export const MODEL = process.env.SORTIE_TEST_MODEL ?? `${root}models/smollm2-135m-sorted`;
if (!existsSync(MODEL)) throw new Error(`no model at ${MODEL}`);

export function engineOptions(overrides: Partial<EngineOptions> = {}): EngineOptions {
  return {
    modelDir: MODEL,
    device: 'cpu',
    // Tests run beside each other: threads of the runtime spin, and two processes of two would stall each other.
    threads: 1,
    kvMemoryBytes: 2 ** 30,
    maxRunning: 16,
    maxQueue: 1000,
    prefillChunk: 128,
    kernels: null,
    prefixReuse: true,
    ...overrides,
  };
}

export async function makeExecutor(t: Test, overrides: Partial<EngineOptions> = {}): Promise<Executor> {
  const executor = new Executor(await loadModel(engineOptions(overrides)));
  t.teardown(() => {
    executor.dispose();
  });
  return executor;
}

/** The parts of a model whose KV cache has slots. */
export function slotParts({ model, head }: Executor): { readonly model: StagedModel; readonly head: HeadRunner } {
  if (!(model instanceof StagedModel) || !(head instanceof HeadRunner)) throw new Error('the KV cache has no slots');
  return { model, head };
}

/** By model: files that share a process have models of their own. */
const measured = new Map<string, CostTable>();

/** Measured costs, once per process, and once per run of all files: run.ts names a folder for them. */
function costsOf(executor: Executor): CostTable {
  const { architecture, kvType } = executor.model.manifest;
  const units = executor.units.stages.map(({ entry }) => entry.name);
  const key = createHash('sha256')
    .update(JSON.stringify([architecture, kvType, executor.kernels, units]))
    .digest('hex');
  const { SORTIE_TEST_COSTS: folder } = process.env;
  const file = folder === undefined ? null : join(folder, `${key}.json`);
  const known = measured.get(key) ?? (file !== null && existsSync(file) ? read(file) : undefined);
  const costs = known ?? calibrate(executor, { ...calibrationPlan(4, 32, 128), repeats: 1 }, monotonicMs);
  measured.set(key, costs);
  if (known === undefined && file !== null) {
    // Another process may read it meanwhile.
    writeFileSync(`${file}.${process.pid}`, JSON.stringify(costs));
    renameSync(`${file}.${process.pid}`, file);
  }
  return costs;
}

const read = (file: string): CostTable => JSON.parse(readFileSync(file, 'utf8')) as CostTable;

/** Costs of a machine where each unit takes this time at any size, so plans do not depend on the test's machine. */
export function equalCosts(executor: Executor, unitMs: number): CostTable {
  let now = 0;
  return calibrate(executor, { ...calibrationPlan(4, 32, 128), repeats: 1 }, () => (now += unitMs));
}

/**
 * Costs in which each row, and each position of a prompt, takes these milliseconds in a unit.
 * @param decodeMs by unit; the embedding and the head come behind the last one
 */
export function flatCosts(
  { units, kernels }: Executor,
  decodeMs: (unit: number) => number,
  prefillMs = decodeMs,
): CostTable {
  const [kernel = 'fp32'] = kernels;
  const points = (ms: number) => [1, 4, 16].map((rows) => ({ rows, context: 0, ms: ms * rows }));
  const names = [...units.stages.map(({ entry }) => entry.name), 'embed', 'head'];
  return {
    units: names.map((unit, i) => ({ unit, kernel, decode: points(decodeMs(i)), prefill: points(prefillMs(i)) })),
  };
}

/** A core over an executor, with measured costs unless others are given. */
export function makeCore(
  executor: Executor,
  overrides: Partial<EngineOptions> = {},
  clock = monotonicMs,
  texts?: TokenTexts,
  { costs = costsOf(executor), ...watch }: Pick<CoreOptions, 'onPlan' | 'onResult'> & { costs?: CostTable } = {},
): EngineCore {
  const { maxRunning, maxQueue, kvMemoryBytes, prefixReuse, prefillChunk, speculate } = engineOptions(overrides);
  return new EngineCore(executor, costs, {
    ...{ maxRunning, maxQueue, kvBytes: kvMemoryBytes, prefixReuse, prefillChunk },
    speculate: speculate ?? 'off',
    ...(texts && { texts }),
    policy: { ...defaultPolicy, chunks: chunkSizes(prefillChunk) },
    clock,
    ...watch,
  });
}

export interface Answer {
  readonly tokens: number[];
  readonly events: TokenEvent[];
  ended: EndedEvent | null;
}

/** A budget for the whole answer, at one exit. */
export function within(exit: number, totalMs: number, onMiss: OnMiss): Pick<SequenceRequest, 'depth'> {
  return { depth: { minExit: exit, maxExit: exit, budget: { totalMs, ttftMs: null, tpotMs: null, onMiss } } };
}

/** Answers to requests that arrive together. @param each called after every step */
export function answersTo(
  core: EngineCore,
  requests: readonly SequenceRequest[],
  each?: (step: StepMessage) => void,
): Map<string, Answer> {
  for (const request of requests) core.submit(request);
  return drain(core, each);
}

/** The answer to one request. @throws Error where it is rejected */
export function answerTo(core: EngineCore, request: SequenceRequest, each?: (step: StepMessage) => void): Answer {
  const answer = answersTo(core, [request], each).get(request.id);
  if (answer === undefined) throw new Error(`${request.id} has no answer`);
  return answer;
}

/** Runs steps until a core is idle. @param each called after every step */
export function drain(core: EngineCore, each: (step: StepMessage) => void = () => undefined): Map<string, Answer> {
  const answers = new Map<string, Answer>();
  const of = (id: string): Answer => {
    let answer = answers.get(id);
    if (!answer) answers.set(id, (answer = { tokens: [], events: [], ended: null }));
    return answer;
  };
  while (core.busy) {
    const step = core.step();
    for (const event of step.tokens) {
      of(event.id).tokens.push(event.token);
      of(event.id).events.push(event);
    }
    for (const event of step.ended) of(event.id).ended = event;
    each(step);
  }
  return answers;
}

/** Outcome of a request in a grammar queue. */
export interface Outcome {
  readonly tokens: number[];
  ended: EndedEvent | null;
  rejected: RejectedEvent | null;
}

/** Runs steps until these requests have ended, with turns of the event loop for the grammar thread in between. */
export async function answersOf(
  core: EngineCore,
  ids: readonly string[],
  onStep: (step: StepMessage) => void = () => undefined,
): Promise<Map<string, Outcome>> {
  const all = new Map(ids.map((id): [string, Outcome] => [id, { tokens: [], ended: null, rejected: null }]));
  const open = (): boolean => [...all.values()].some(({ ended, rejected }) => ended === null && rejected === null);
  const until = monotonicMs() + 500_000;
  while (open() && monotonicMs() < until) {
    const isReady = core.busy && !core.isStalled;
    if (isReady) {
      const step = core.step();
      for (const { id, token } of step.tokens) all.get(id)?.tokens.push(token);
      for (const event of step.ended) Object.assign(all.get(event.id) ?? {}, { ended: event });
      for (const event of step.rejected) Object.assign(all.get(event.id) ?? {}, { rejected: event });
      onStep(step);
    }
    // Spinning would take CPU time from the grammar thread on a busy machine.
    await (isReady ? turn() : delay(1));
  }
  return all;
}

/** Keeps the process alive during a test: the grammar thread does not, and in the engine the IPC channel does. */
export function holdProcess(t: Test): void {
  const held = setInterval(() => undefined, 1000);
  t.teardown(() => {
    clearInterval(held);
  });
}

/** A live slot that holds these tokens and has processed none. */
export function openSlot({ table }: Executor, tokens: readonly number[]): Slot {
  const slot = table.slots.find(({ live, length }) => !live && length === 0);
  if (!slot) throw new Error('no slot is free');
  slot.live = true;
  slot.tokens = [...tokens];
  return slot;
}

/** Runs a slot up to a position. @returns the exit's states, valid until the model runs again; null if it has run before */
export function advance(executor: Executor, slot: Slot, exit: number, end: number): States | null {
  const found: States[] = [];
  const read = (states: States): void => {
    found.push(states);
  };
  executor.run(chunksOnly({ slot, exit: executor.exit(exit), end, read }));
  return found[0] ?? null;
}

/** Decodes the last token of each row. */
export function decodeRows(executor: Executor, rows: readonly Row[]): void {
  executor.run({ chunks: [], rows, draft: null });
}

/** Advances in chunks of 128. */
export function advanceTo(executor: Executor, slot: Slot, exit: number, end: number): void {
  const { needed } = executor.exit(exit);
  while (slot.least(needed) < end) advance(executor, slot, exit, Math.min(end, slot.least(needed) + 128));
}

/** An answer to this text that lacks its last position only, for drafts. */
export function draftable(executor: Executor, exit: number, text: readonly number[]) {
  const answer = answerOf(greedy('a', text, executor.exit(exit).layer, 8), executor.units.exits);
  const { sequence } = answer;
  const slot = openSlot(executor, []);
  slot.tokens = sequence.tokens;
  sequence.slot = slot;
  advanceTo(executor, slot, exit, text.length - 1);
  return { answer, sequence, slot };
}

/** Decodes the slot's last token at an exit and returns all logits. */
export function logitsAt(executor: Executor, slot: Slot, exit: number): Float32Array {
  decodeRows(executor, [{ slot, exit: executor.exit(exit) }]);
  return executor.head.fullLogits(0).slice();
}

/** Logits of each executor behind a text at an exit, in a slot of their own. @param advance to the last position */
export function logitsBehind(
  executors: readonly Executor[],
  text: readonly number[],
  exit: number,
  advance: (executor: Executor, slot: Slot) => void = (executor, slot) => {
    advanceTo(executor, slot, exit, text.length - 1);
  },
): readonly [Float32Array, Float32Array] {
  return executors.map((executor) => {
    const slot = openSlot(executor, text);
    advance(executor, slot);
    const logits = logitsAt(executor, slot, exit);
    executor.table.drop(slot);
    return logits;
  }) as [Float32Array, Float32Array];
}

/** The rms of the differences, as a share of the largest logit. */
export const rmsShare = (expected: Float32Array, found: Float32Array): number =>
  rms(expected, found) / Math.max(...expected.map(Math.abs));

export function argmax(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit), -Infinity));
}

/** Greatest absolute difference. */
export function distance(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] ?? NaN))), 0);
}

/** Root mean square of the differences without their mean, because a common shift of all logits changes nothing. */
export function rms(a: Float32Array, b: Float32Array): number {
  const offsets = a.map((value, index) => value - (b[index] ?? NaN));
  const shift = offsets.reduce((sum, offset) => sum + offset, 0) / offsets.length;
  return Math.sqrt(offsets.reduce((sum, offset) => sum + (offset - shift) ** 2, 0) / offsets.length);
}

/** Difference of the two largest logits. */
export function margin(logits: Float32Array): number {
  const [first = NaN, second = NaN] = logits.toSorted((a, b) => b - a);
  return first - second;
}

/** "The capital of France is" and other prompts in the embedded model's tokens. */
export const PROMPTS: readonly (readonly number[])[] = [
  [504, 3575, 282, 4649, 314],
  [1780, 288, 597, 28, 665, 436, 253, 1165, 2793, 617, 260, 23049, 19056, 281, 253, 2817],
  Array.from({ length: 300 }, (_, i) => 260 + ((i * 37) % 400)),
];
