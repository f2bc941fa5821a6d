/**
 * Prompt exits over pages on a GPU, on every way and over several pages. The logits of both modes in fp16 are those of the
 * CPU's slots in fp32. test/convert has the CPU's beside a reference.
 */
import t, { type Test } from 'tap';
import type { Executor } from '../../src/engine/execution/executor.js';
import { promptModel, type PromptModel, writePromptModel } from '../convert/prompt-models.js';
import { inChunks, WAYS } from '../convert/prompt-ways.js';
import { type Answer, decodeRows, drain, greedy, openSlot, rms } from '../engine/helper.js';
import { convertedPair, coreOf, decode, needsGpu, tokens } from './helper.js';

/** Of the largest logit. */
const SHARE = 5e-3;
/** Two pages. */
const LENGTH = 70;

function pairOf(t: Test, model: PromptModel): Promise<readonly [cpu: Executor, gpu: Executor]> {
  const source = writePromptModel(t.testdir(), model, { max_position_embeddings: 256 });
  return convertedPair(t, source, { maxRunning: 6, prefillChunk: 128 });
}

function equal(t: Test, found: Float32Array, expected: Float32Array, what: string): void {
  const error = rms(expected, found) / Math.max(...expected.map(Math.abs));
  t.ok(expected.length > 0 && error <= SHARE, `${what}: rms ${error} of the largest logit`);
}

/** The depths differ by far more than the rounding. */
function differ(t: Test, a: Float32Array, b: Float32Array): void {
  const error = rms(a, b) / Math.max(...a.map(Math.abs));
  t.ok(error > 10 * SHARE, `the modes differ by ${error} of the largest logit`);
}

if (needsGpu()) {
  for (const [name, shape] of [
    ['Llama', { layers: 4, exit: 2, group: 1 }],
    ['Qwen2', { layers: 5, exit: 2, group: 3 }],
    ['Qwen3', { layers: 5, exit: 2, group: 2 }],
  ] as const)
    void t.test(`${name}, prompts of ${shape.exit} layers, groups of ${shape.group}`, async (t) => {
      const pair = await pairOf(t, promptModel(name, shape));
      const ids = tokens(LENGTH, 1);
      for (const [what, way] of Object.entries(WAYS)) {
        const [full, prompt] = [0, 1].map((exit) => {
          const [expected, found] = pair.map((executor) => {
            const slot = openSlot(executor, ids);
            way(executor, slot, exit, LENGTH - 1);
            const [logits = new Float32Array()] = decode(executor, [[slot, exit]]);
            executor.table.drop(slot);
            return logits;
          }) as [Float32Array, Float32Array];
          equal(t, found, expected, `exit ${exit}, ${what}`);
          return found;
        }) as [Float32Array, Float32Array];
        differ(t, full, prompt);
      }
    });

  void t.test('keys alone: the answer runs the trunk, also where it runs again', async (t) => {
    const pair = await pairOf(t, promptModel('Llama', { layers: 5, exit: 2, group: 1, keysOnly: true }));
    const ids = tokens(LENGTH, 2);
    for (const again of [null, 128, 4])
      for (const prompt of [1, 40, 66]) {
        const [expected, found] = pair.map((executor) => {
          const slot = openSlot(executor, ids);
          const rows = again === null ? prompt - 1 : LENGTH - 1;
          inChunks(executor, slot, 1, rows, again ?? 128, prompt - 1);
          for (let length = rows + 1; length <= LENGTH; length++) {
            slot.tokens = ids.slice(0, length);
            decodeRows(executor, [{ slot, exit: executor.exit(1) }]);
          }
          const logits = executor.head.fullLogits(0).slice();
          executor.table.drop(slot);
          return logits;
        }) as [Float32Array, Float32Array];
        equal(t, found, expected, `prompt of ${prompt}, chunks of ${again}`);
      }
  });

  void t.test('rows and chunks of both modes share a step', async (t) => {
    const pair = await pairOf(t, promptModel('Llama', { layers: 5, exit: 3, group: 2 }));
    const lengths = [40, 100, 66, 129];
    const [expected, found] = pair.map((executor) => {
      const slots = lengths.map((length, i) => openSlot(executor, tokens(length, i)));
      const [a, b, c, d] = slots as [(typeof slots)[0], (typeof slots)[0], (typeof slots)[0], (typeof slots)[0]];
      inChunks(executor, a, 0, 39, 128);
      inChunks(executor, b, 1, 99, 128);
      const logits = decode(
        executor,
        [
          [a, 0],
          [b, 1],
          [c, 1],
          [d, 0],
        ],
        [
          [c, 1, 65],
          [d, 0, 128],
        ],
      );
      for (const slot of slots) executor.table.drop(slot);
      return logits;
    }) as [Float32Array[], Float32Array[]];
    for (const [row, logits] of expected.entries())
      equal(t, found[row] ?? new Float32Array(), logits, `row ${row} of ${lengths[row]} positions`);
  });

  void t.test('sequences of both modes share the pages of a prompt, and no keys', async (t) => {
    const pair = await pairOf(t, promptModel('Llama', { layers: 4, exit: 2, group: 1 }));
    const ids = tokens(LENGTH, 3);
    for (const [first, second] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const [expected, found] = pair.map((executor) => {
        const [a, b] = [openSlot(executor, ids), openSlot(executor, ids)];
        inChunks(executor, a, first, LENGTH - 1, 128);
        executor.table.copyPrefix(a, b, LENGTH - 1);
        t.equal(b.least(executor.exit(second).needed), 0, 'the deeper layers begin anew');
        inChunks(executor, b, second, LENGTH - 1, 64);
        const logits = decode(executor, [
          [b, second],
          [a, first],
        ]);
        for (const slot of [a, b]) executor.table.drop(slot);
        return logits;
      }) as [Float32Array[], Float32Array[]];
      for (const [row, logits] of expected.entries())
        equal(t, found[row] ?? new Float32Array(), logits, `exit ${[second, first][row]} behind exit ${first}`);
    }
  });

  void t.test('an engine answers requests of both depths beside each other', async (t) => {
    const layers = 5;
    const pair = await pairOf(t, promptModel('Llama', { layers, exit: 2, group: 1, keysOnly: true }));
    const shared = tokens(130, 4);
    const requests = Array.from({ length: 8 }, (_, i) => {
      const depth = { minExit: layers, maxExit: layers, budget: null, promptDepth: i % 2 === 0 ? 2 : null };
      return greedy(`r${i}`, [...shared, 10 + i, 3], layers, 4, { depth, arrivedAt: 0 });
    });
    const [expected, found] = pair.map((executor) => {
      const core = coreOf(executor, { kvBytes: 2 ** 23 });
      for (const request of requests) core.submit(request);
      return drain(core);
    }) as [Map<string, Answer>, Map<string, Answer>];
    const first = (answers: Map<string, Answer>) => requests.map(({ id }) => answers.get(id)?.tokens[0]);
    for (const [id, { tokens: made }] of found) t.equal(made.length, 4, id);
    const same = first(found).filter((token, i) => token === first(expected)[i]).length;
    // Random weights have near-ties.
    t.ok(same >= requests.length - 1, `${same} of ${requests.length} first tokens are the CPU's`);
    t.equal(found.size, requests.length);
  });
}
