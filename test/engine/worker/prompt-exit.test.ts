/** Requests of a model with a prompt exit: each has the tokens of a reference, with the exit on and off. */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { promptModel, writePromptModel } from '../../convert/prompt-models.js';
import { promptLogits } from '../../convert/reference.js';
import { argmax, answersTo, answerTo, greedy, makeCore, makeExecutor, type Answer } from '../helper.js';

const EXIT = 2;
const LAYERS = 5;
const model = promptModel('Llama', { layers: LAYERS, exit: EXIT, group: 2 });
const dir = t.testdir();
const modelDir = join(dir, 'out');
const source = writePromptModel(dir, model, { max_position_embeddings: 128 });
await convert({ source, out: modelDir, exits: [1, LAYERS], kernels: ['fp32'], compress: false, force: false });

const ids = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 2 + ((i * 31 + seed * 17) % 250));

const ask = (id: string, prompt: readonly number[], more: Partial<SequenceRequest> = {}) =>
  greedy(id, prompt, LAYERS, 4, more);

const tokensOf = (answers: ReadonlyMap<string, Answer>, id: string): readonly number[] => answers.get(id)?.tokens ?? [];

const known = new Map<string, readonly number[]>();

/** Greedy tokens of the reference behind a prompt. */
function expected(prompt: readonly number[], tokens: number): readonly number[] {
  const key = `${tokens} ${prompt.join()}`;
  const text = [...prompt];
  while (!known.has(key) && text.length < prompt.length + tokens)
    text.push(argmax(Float32Array.from(promptLogits(model.weights, model.shape, text).at(-1) ?? [])));
  const found = known.get(key) ?? text.slice(prompt.length);
  known.set(key, found);
  return found;
}

for (const promptExit of [true, false])
  void t.test(promptExit ? 'on' : 'off', async (t) => {
    const executor = await makeExecutor(t, { modelDir, maxRunning: 6, kvMemoryBytes: 2 ** 24, promptExit });
    t.afterEach(() => {
      executor.forget(0);
    });

    await t.test('neighbours with a common prefix, which a stored one serves again', async (t) => {
      const shared = ids(1, 20);
      const prompts = [0, 1, 2].map((i) => [...shared, ...ids(50 + i, 5)]);
      for (const time of ['first', 'again']) {
        const core = makeCore(executor, { maxRunning: 6, prefillChunk: 16 });
        const answers = answersTo(
          core,
          prompts.map((prompt, i) => ask(`${i}`, prompt)),
        );
        for (const [i, prompt] of prompts.entries())
          t.strictSame(tokensOf(answers, `${i}`), expected(prompt, 4), `${i}, ${time}`);
      }
    });

    await t.test('an early exit beside it, and log-probabilities of the prompt, whose states are read', async (t) => {
      const prompt = ids(3, 28);
      const core = makeCore(executor, { maxRunning: 2, prefillChunk: 16 });
      const answers = answersTo(core, [ask('scored', prompt, { promptLogprobs: 1 }), greedy('early', prompt, 1, 4)]);
      t.strictSame(tokensOf(answers, 'scored'), expected(prompt, 4));
      t.equal(tokensOf(answers, 'early').length, 4);
    });

    await t.test('a preempted sequence', async (t) => {
      const kvMemoryBytes = Math.ceil(executor.model.bytesPerPosition * 70);
      const core = makeCore(executor, { maxRunning: 4, kvMemoryBytes, prefillChunk: 16, prefixReuse: false });
      const prompts = [ids(5, 20), ids(6, 20), ids(7, 20)];
      const answers = answersTo(
        core,
        prompts.map((prompt, i) => ask(`${i}`, prompt, { maxTokens: 12 })),
      );
      const preempted = [...answers.values()].reduce((sum, { ended }) => sum + (ended?.preemptions ?? 0), 0);
      t.ok(preempted > 0, `${preempted} preempted`);
      for (const [i, prompt] of prompts.entries())
        t.strictSame(tokensOf(answers, `${i}`), expected(prompt, 12), `${i}`);
    });

    await t.test('drafts change no token', async (t) => {
      const prompt = [...ids(8, 12), ...ids(8, 12), ...ids(8, 12)];
      const core = makeCore(executor, { maxRunning: 1, prefillChunk: 16, speculate: 'all' });
      const want = expected(prompt, 12);
      const prediction = [...want.slice(0, 6), 7, ...want.slice(7)];
      const { tokens, ended } = answerTo(core, ask('drafted', prompt, { maxTokens: 12, prediction }));
      t.strictSame(tokens, want);
      t.ok(
        ended?.drafts?.some(({ accepted }) => accepted > 0),
        JSON.stringify(ended?.drafts),
      );
    });
  });
