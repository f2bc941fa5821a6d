/**
 * Requests of a model with a prompt exit: each has the tokens of a reference, with the exit on and off. A prefix is shared,
 * prompts are scored, sequences are preempted, and a draft is verified.
 */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { promptModel, writePromptModel } from '../../convert/prompt-models.js';
import { promptLogits } from '../../convert/reference.js';
import { argmax, answersTo, answerTo, greedy, makeCore, makeExecutor } from '../helper.js';

const EXIT = 2;
const LAYERS = 5;
const model = promptModel('Llama', { layers: LAYERS, exit: EXIT, group: 2 });
const dir = t.testdir();
const modelDir = join(dir, 'out');
const source = writePromptModel(dir, model, { max_position_embeddings: 128 });
await convert({ source, out: modelDir, exits: [1, LAYERS], kernels: ['fp32'], compress: false, force: false });

const ids = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 2 + ((i * 31 + seed * 17) % 250));

/** Greedy tokens of the reference behind a prompt. */
function expected(prompt: readonly number[], tokens: number): readonly number[] {
  const text = [...prompt];
  while (text.length < prompt.length + tokens)
    text.push(argmax(Float32Array.from(promptLogits(model.weights, model.shape, text).at(-1) ?? [])));
  return text.slice(prompt.length);
}

const shared = ids(1, 20);
const PROMPTS = [0, 1, 2].map((i) => [...shared, ...ids(50 + i, 5)]);
const wanted = PROMPTS.map((prompt) => expected(prompt, 12));

for (const promptExit of [true, false])
  void t.test(promptExit ? 'on' : 'off', async (t) => {
    const executor = await makeExecutor(t, { modelDir, maxRunning: 6, kvMemoryBytes: 2 ** 24, promptExit });
    const run = (limits: Partial<EngineOptions>, more: Partial<SequenceRequest> = {}, ...others: SequenceRequest[]) => {
      const core = makeCore(executor, { maxRunning: 6, prefillChunk: 16, ...limits });
      const asked = PROMPTS.map((prompt, i) => greedy(`${i}`, prompt, LAYERS, 12, more));
      const answers = answersTo(core, [...asked, ...others]);
      for (const [i, tokens] of wanted.entries()) t.strictSame(answers.get(`${i}`)?.tokens, tokens, `${i}`);
      return [...answers.values()];
    };
    run({});
    run({}, { promptLogprobs: 1 }, greedy('early', ids(3, 28), 1, 4));
    executor.forget(0);
    const tight = run({ kvMemoryBytes: Math.ceil(executor.model.bytesPerPosition * 70), prefixReuse: false });
    t.ok(
      tight.some(({ ended }) => (ended?.preemptions ?? 0) > 0),
      'a sequence was preempted',
    );

    const [prompt = [], tokens = []] = [PROMPTS[0], wanted[0]];
    const prediction = [...tokens.slice(0, 6), 7, ...tokens.slice(7)];
    const core = makeCore(executor, { maxRunning: 1, prefillChunk: 16, speculate: 'all' });
    const drafted = answerTo(core, greedy('drafted', prompt, LAYERS, 12, { prediction }));
    t.strictSame(drafted.tokens, tokens);
    t.ok(
      drafted.ended?.drafts?.some(({ accepted }) => accepted > 0),
      'drafts were accepted',
    );
  });
