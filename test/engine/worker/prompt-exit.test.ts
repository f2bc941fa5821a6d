/**
 * Requests of a model with a prompt exit: each has the tokens of a reference, with the exit on and off. A prefix is shared,
 * prompts are scored, sequences are preempted, and a draft is verified. Gemma 4's layers that share keys are such an exit.
 */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { EngineOptions } from '../../../src/protocol/engine-options.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { goldenModel, writeGoldenFolder } from '../../convert/golden-model.js';
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

interface Case {
  readonly modelDir: string;
  readonly layers: number;
  readonly prompts: readonly number[][];
  readonly wanted: readonly (readonly number[])[];
  /** Positions that hold the longest sequence, and not all of them. */
  readonly positions: number;
  readonly others: readonly SequenceRequest[];
}

/** Gemma 4 with shared keys: prompts with the greedy tokens of transformers. */
async function gemma4(name: string): Promise<Case> {
  const golden = goldenModel(name);
  const out = join(dir, name, 'out');
  const source = writeGoldenFolder(join(dir, name), golden);
  await convert({ source, out, kernels: ['fp32'], compress: false, force: false });
  const prompts = golden.prompts.map(({ ids }) => ids.slice(0, -16));
  const wanted = golden.prompts.map(({ ids }) => ids.slice(-16));
  return {
    modelDir: out,
    layers: Number(golden.config.num_hidden_layers),
    prompts,
    wanted,
    positions: 125,
    others: [],
  };
}

const CASES: Readonly<Record<string, Case>> = {
  SwiftKV: {
    modelDir,
    layers: LAYERS,
    prompts: PROMPTS,
    wanted,
    positions: 70,
    others: [greedy('early', ids(3, 28), 1, 4)],
  },
  'Gemma 4': await gemma4('gemma4'),
  'Gemma 4 without inputs of layers': await gemma4('gemma4-shared'),
};

for (const [name, { modelDir, layers, prompts, wanted, positions, others }] of Object.entries(CASES))
  for (const promptExit of [true, false])
    void t.test(`${name}, ${promptExit ? 'on' : 'off'}`, async (t) => {
      const executor = await makeExecutor(t, { modelDir, maxRunning: 6, kvMemoryBytes: 2 ** 24, promptExit });
      const request = (id: string, i: number, more: Partial<SequenceRequest>): SequenceRequest =>
        greedy(id, prompts[i] ?? [], layers, wanted[i]?.length ?? 0, more);
      const run = (
        limits: Partial<EngineOptions>,
        more: Partial<SequenceRequest> = {},
        ...besides: SequenceRequest[]
      ) => {
        const core = makeCore(executor, { maxRunning: 6, prefillChunk: 16, ...limits });
        const answers = answersTo(core, [...prompts.map((_, i) => request(`${i}`, i, more)), ...besides]);
        for (const [i, tokens] of wanted.entries()) t.strictSame(answers.get(`${i}`)?.tokens, tokens, `${i}`);
        return [...answers.values()];
      };
      run({});
      run({}, { promptLogprobs: 1 }, ...others);
      executor.forget(0);
      const tight = run({
        kvMemoryBytes: Math.ceil(executor.model.bytesPerPosition * positions),
        prefixReuse: false,
      });
      t.ok(
        tight.some(({ ended }) => (ended?.preemptions ?? 0) > 0),
        'a sequence was preempted',
      );

      const [tokens = []] = wanted;
      const prediction = [...tokens.slice(0, 6), 7, ...tokens.slice(7)];
      const core = makeCore(executor, { maxRunning: 1, prefillChunk: 16, speculate: 'all' });
      const drafted = answerTo(core, request('drafted', 0, { prediction }));
      t.strictSame(drafted.tokens, tokens);
      t.ok(
        drafted.ended?.drafts?.some(({ accepted }) => accepted > 0),
        'drafts were accepted',
      );
    });
