/** Requests of both depths of prompts in one engine: each has the tokens of a reference, whatever they share. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../../src/convert/convert.js';
import type { SequenceRequest } from '../../../src/protocol/index.js';
import { promptModel, writePromptModel } from '../../convert/prompt-models.js';
import { promptLogits } from '../../convert/prompt-reference.js';
import { argmax, drain, greedy, makeCore, makeExecutor, type Answer } from '../helper.js';

const EXIT = 2;
const LAYERS = 5;
type Depth = number | null;

const ids = (seed: number, length: number): number[] =>
  Array.from({ length }, (_, i) => 2 + ((i * 31 + seed * 17) % 250));

function ask(id: string, prompt: readonly number[], promptDepth: Depth, more: Partial<SequenceRequest> = {}) {
  const depth = { minExit: LAYERS, maxExit: LAYERS, budget: null, promptDepth };
  return greedy(id, prompt, LAYERS, 4, { depth, ...more });
}

const tokensOf = (answers: ReadonlyMap<string, Answer>, id: string): readonly number[] => answers.get(id)?.tokens ?? [];

for (const keysOnly of [false, true])
  void t.test(keysOnly ? 'an exit of keys alone' : 'an exit of prompts and answers', async (t) => {
    const model = promptModel('Llama', { layers: LAYERS, exit: EXIT, group: keysOnly ? 1 : 2, keysOnly });

    const dir = await mkdtemp(join(tmpdir(), 'sortie-prompt-'));
    t.teardown(() => rm(dir, { recursive: true }));
    const out = join(dir, 'out');
    const source = writePromptModel(dir, model, { max_position_embeddings: 128 });
    await convert({ source, out, exits: [1, LAYERS], kernels: ['fp32'], compress: false, force: false });
    const executor = await makeExecutor(t, { modelDir: out, maxRunning: 6, kvMemoryBytes: 2 ** 24 });

    t.afterEach(() => {
      executor.forget(0);
    });

    const known = new Map<string, readonly number[]>();

    const trunkFrom = (prompt: readonly number[]): number | undefined => (keysOnly ? prompt.length - 1 : undefined);

    /** Greedy tokens of the reference behind a prompt. */
    function expected(prompt: readonly number[], depth: Depth, tokens: number): readonly number[] {
      const key = `${depth} ${tokens} ${prompt.join()}`;
      const found = known.get(key) ?? computed(prompt, depth, tokens);
      known.set(key, found);
      return found;
    }

    function computed(prompt: readonly number[], depth: Depth, tokens: number): number[] {
      const text = [...prompt];
      for (let i = 0; i < tokens; i++) {
        const last = promptLogits(model.weights, model.shape, text, depth !== null, trunkFrom(prompt)).at(-1) ?? [];
        text.push(argmax(Float32Array.from(last)));
      }
      return text.slice(prompt.length);
    }

    await t.test('neighbours of both depths with a common prefix', async (t) => {
      const shared = ids(1, 20);
      const prompts = [0, 1, 2].map((i) => [...shared, ...ids(50 + i, 5)]);
      const core = makeCore(executor, { maxRunning: 6, prefillChunk: 16 });
      for (const [i, prompt] of prompts.entries())
        for (const depth of [EXIT, null]) core.submit(ask(`${i} ${depth}`, prompt, depth));
      const answers = drain(core);
      for (const [i, prompt] of prompts.entries()) {
        for (const depth of [EXIT, null]) t.strictSame(tokensOf(answers, `${i} ${depth}`), expected(prompt, depth, 4));
        t.notSame(expected(prompt, EXIT, 4), expected(prompt, null, 4), 'the depths differ');
      }
      const exits = new Set([...answers.values()].flatMap(({ events }) => events.map(({ exit }) => exit)));
      t.strictSame([...exits], [LAYERS]);
    });

    await t.test('a stored prefix of one depth serves the other up to the prompt exit alone', async (t) => {
      const prompt = ids(3, 28);
      for (const [first, then] of [
        [EXIT, null],
        [null, EXIT],
      ] as const) {
        const core = makeCore(executor, { maxRunning: 2, prefillChunk: 16 });
        core.submit(ask('first', prompt, first));
        t.strictSame(tokensOf(drain(core), 'first'), expected(prompt, first, 4));
        // The slot holds the trunk's stages up to the exit; deeper layers of the other depth begin at 0.
        core.submit(ask('then', prompt, then));
        t.strictSame(tokensOf(drain(core), 'then'), expected(prompt, then, 4), `${first} then ${then}`);
        // The slot now holds both depths.
        for (const depth of [first, then]) {
          core.submit(ask(`again ${depth}`, prompt, depth));
          t.strictSame(tokensOf(drain(core), `again ${depth}`), expected(prompt, depth, 4));
        }
        executor.forget(0);
      }
    });

    await t.test('a preempted sequence keeps its depth', async (t) => {
      const kvMemoryBytes = Math.ceil(executor.model.bytesPerPosition * 70);
      const core = makeCore(executor, { maxRunning: 4, kvMemoryBytes, prefillChunk: 16, prefixReuse: false });
      const prompts = [ids(5, 20), ids(6, 20), ids(7, 20)];
      for (const [i, prompt] of prompts.entries())
        core.submit(ask(`${i}`, prompt, i % 2 === 0 ? EXIT : null, { maxTokens: 12 }));
      const answers = drain(core);
      const preempted = [...answers.values()].reduce((sum, { ended }) => sum + (ended?.preemptions ?? 0), 0);
      t.ok(preempted > 0, `${preempted} preempted`);
      for (const [i, prompt] of prompts.entries())
        t.strictSame(tokensOf(answers, `${i}`), expected(prompt, i % 2 === 0 ? EXIT : null, 12), `${i}`);
    });

    await t.test('drafts of a prompt exit change no token', async (t) => {
      const prompt = [...ids(8, 12), ...ids(8, 12), ...ids(8, 12)];
      const core = makeCore(executor, { maxRunning: 1, prefillChunk: 16, speculate: 'all' });
      const want = expected(prompt, EXIT, 12);
      core.submit(
        ask('drafted', prompt, EXIT, { maxTokens: 12, prediction: [...want.slice(0, 6), 7, ...want.slice(7)] }),
      );
      const { tokens, ended } = drain(core).get('drafted') ?? {};
      t.strictSame(tokens, want);
      t.ok(
        ended?.drafts?.some(({ accepted }) => accepted > 0),
        JSON.stringify(ended?.drafts),
      );
    });
  });
