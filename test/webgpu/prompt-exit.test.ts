/**
 * Prompt exits over pages on a GPU, on every way and over several pages, with the exit on and off. The logits in fp16 are
 * those of the CPU's slots in fp32. test/convert has the CPU's beside a reference.
 */
import t, { type Test } from 'tap';
import type { Executor } from '../../src/engine/execution/executor.js';
import { promptModel, type PromptModel, writePromptModel } from '../convert/prompt-models.js';
import { inChunks, WAYS } from '../convert/ways.js';
import { type Answer, answersTo, greedy, logitsBehind, openSlot, rmsShare } from '../engine/helper.js';
import { convertedPair, coreOf, decode, needsGpu, tokens } from './helper.js';

/** Of the largest logit. */
const SHARE = 5e-3;
/** Two pages. */
const LENGTH = 70;

function pairOf(t: Test, model: PromptModel, promptExit = true): Promise<readonly [cpu: Executor, gpu: Executor]> {
  const source = writePromptModel(t.testdir(), model, { max_position_embeddings: 256 });
  return convertedPair(t, source, { maxRunning: 6, prefillChunk: 128, promptExit });
}

function equal(t: Test, found: Float32Array, expected: Float32Array, what: string): void {
  const error = rmsShare(expected, found);
  t.ok(expected.length > 0 && error <= SHARE, `${what}: rms ${error} of the largest logit`);
}

if (needsGpu()) {
  for (const [name, shape] of [
    ['Llama', { layers: 4, exit: 2, group: 1 }],
    ['Qwen2', { layers: 5, exit: 2, group: 3 }],
    ['Qwen3', { layers: 5, exit: 2, group: 2 }],
  ] as const)
    for (const promptExit of [true, false])
      void t.test(`${name}, ${promptExit ? 'on' : 'off'}`, async (t) => {
        const pair = await pairOf(t, promptModel(name, shape), promptExit);
        const ids = tokens(LENGTH, 1);
        for (const [what, way] of Object.entries(WAYS)) {
          const [expected, found] = logitsBehind(pair, ids, 0, (executor, slot) => {
            way(executor, slot, 0, LENGTH - 1);
          });
          equal(t, found, expected, what);
        }
      });

  void t.test('rows and chunks share a step', async (t) => {
    const pair = await pairOf(t, promptModel('Llama', { layers: 5, exit: 3, group: 2 }));
    const lengths = [40, 100, 66, 129];
    const [expected, found] = pair.map((executor) => {
      const slots = lengths.map((length, i) => openSlot(executor, tokens(length, i)));
      const chunks = slots.map((slot, i) => [slot, 0, (lengths[i] ?? 0) - 1] as const);
      for (const [slot, exit, end] of chunks.slice(0, 2)) inChunks(executor, slot, exit, end, 128);
      const rows = slots.map((slot) => [slot, 0] as const);
      const logits = decode(executor, rows, chunks.slice(2));
      for (const slot of slots) executor.table.drop(slot);
      return logits;
    }) as [Float32Array[], Float32Array[]];
    for (const [row, logits] of expected.entries())
      equal(t, found[row] ?? new Float32Array(), logits, `row ${row} of ${lengths[row]} positions`);
  });

  void t.test('an engine answers requests beside each other', async (t) => {
    const layers = 5;
    const pair = await pairOf(t, promptModel('Llama', { layers, exit: 2, group: 1 }));
    const shared = tokens(130, 4);
    const requests = Array.from({ length: 8 }, (_, i) => greedy(`r${i}`, [...shared, 10 + i, 3], layers, 4));
    const [expected, found] = pair.map((executor) => {
      const core = coreOf(executor, { kvBytes: 2 ** 23 });
      return answersTo(core, requests);
    }) as [Map<string, Answer>, Map<string, Answer>];
    const first = (answers: Map<string, Answer>) => requests.map(({ id }) => answers.get(id)?.tokens[0]);
    for (const [id, { tokens: made }] of found) t.equal(made.length, 4, id);
    const same = first(found).filter((token, i) => token === first(expected)[i]).length;
    // Random weights have near-ties.
    t.ok(same >= requests.length - 1, `${same} of ${requests.length} first tokens are the CPU's`);
    t.equal(found.size, requests.length);
  });
}
