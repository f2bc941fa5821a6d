/**
 * A looped model on CUDA's provider, over fake CUDA libraries: a loop more costs the kernels of its layers, and no weights.
 * SORTIE_TEST_CUDA_MODEL names another looped folder in `fp16`, for its counts and its memory.
 */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { goldenLoops, writeGoldenFolder } from '../convert/golden-model.js';
import { runScript, withCuda, linesOf, memoryOf, readTrace, kernelsOf } from './installation.js';
import { promptModel, type SwiftClass, writePromptModel } from '../convert/prompt-models.js';

const STEPS = 10;
const ROWS = 4;
const KINDS = ['kernel', 'launch', 'copy H2D', 'copy D2D', 'copy D2H', 'wait'] as const;
type Counts = Record<(typeof KINDS)[number], number>;

await withCuda(t, async (installation, folder) => {
  const model = process.env.SORTIE_TEST_CUDA_MODEL ?? join(folder, 'looped');
  if (process.env.SORTIE_TEST_CUDA_MODEL === undefined) {
    const looped = goldenLoops('ouro-4');
    const source = writeGoldenFolder(join(folder, 'source'), looped);
    await convert({ source, out: model, kernels: ['fp16'], compress: false, force: false });
  }
  const { layers } = loadManifest(model).architecture;

  /** Counts of a step by loops. All steps of as many loops have the same. */
  const countsOf = async (kernel: string) => {
    const file = join(folder, `${kernel}.trace`);
    const args = [model, kernel, String(ROWS), String(STEPS)];
    const { code, stdout, stderr } = await runScript(installation, 'test/cuda/child/loops.js', args, {
      FAKE_CUDA_TRACE: file,
    });
    t.equal(code, 0, stderr);
    const trace = readTrace(file);
    const byLoops = [1, 2, 3, 4].map((loops) => {
      const sections = trace.filter(({ mark }) => mark === `loops ${loops}`);
      const steps = sections.map((step) => KINDS.map((kind) => linesOf([step], kind).length));
      t.equal(steps.length, STEPS);
      for (const step of steps) t.strictSame(step, steps[0], `${kernel}, ${loops} loops`);
      return Object.fromEntries(KINDS.map((kind, i) => [kind, steps[0]?.[i] ?? NaN])) as Counts;
    });
    const start = trace.findIndex(({ mark }) => mark === 'serve');
    const memory = memoryOf(trace.slice(0, start), stdout);
    t.comment(`${kernel}, ${ROWS} rows: ${JSON.stringify({ byLoops, ...memory })}`);
    return { byLoops, ...memory };
  };

  await t.test('a loop costs its kernels, and a wait and a result stay one', async (t) => {
    const { byLoops, planned, taken } = await countsOf('fp16');
    const growth = byLoops.slice(1).map(({ kernel }, i) => kernel - (byLoops[i]?.kernel ?? NaN));
    t.equal(new Set(growth).size, 1, `kernels of a loop: ${growth.join()}`);
    t.ok((growth[0] ?? NaN) >= 10 * layers, 'a loop runs all its layers');
    for (const { wait, 'copy D2H': results } of byLoops) t.strictSame([wait, results], [1, 1]);
    const copies = byLoops.map(({ 'copy H2D': count }) => count);
    t.equal(new Set(copies).size, 1, `copies to the card: ${copies.join()}`);
    t.ok(Math.abs(taken - planned) < 0.02 * planned + 4 * 2 ** 20, `${taken} bytes, ${planned} by the plan`);
  });

  await t.test('captured, a loop is one launch', async (t) => {
    const { byLoops } = await countsOf('fp16-graph');
    const launches = byLoops.map(({ launch }) => launch);
    t.strictSame(launches, [1, 2, 3, 4]);
  });
});

// Prompt exits on ONNX Runtime's real CUDA provider, over fake CUDA libraries. Behind the exit a prompt runs no attention,
// and a row of the answer runs all layers. With the exit off, both do. test/webgpu has the numbers of the same graphs.

const SHAPES = {
  Llama: { layers: 5, exit: 2, group: 1 },
  Qwen2: { layers: 6, exit: 2, group: 2 },
  Qwen3: { layers: 5, exit: 3, group: 2 },
} as const satisfies Record<SwiftClass, object>;

await withCuda(t, async (installation, folder) => {
  const models: { readonly dir: string; readonly layers: number; readonly exit: number }[] = [];
  for (const name of ['Llama', 'Qwen2', 'Qwen3'] as const) {
    const dir = join(folder, name);
    const source = writePromptModel(join(folder, `${name}.source`), promptModel(name, SHAPES[name]), {
      max_position_embeddings: 512,
    });
    await convert({ source, out: dir, kernels: ['fp16'], compress: false, force: false });
    models.push({ dir, ...SHAPES[name] });
  }
  for (const kernel of ['fp16', 'fp16-graph'])
    await t.test(kernel, async (t) => {
      const file = join(folder, `${kernel}.trace`);
      const args = [kernel, ...models.map(({ dir }) => dir)];
      const { code, stderr } = await runScript(installation, 'test/cuda/child/prompt-exit.js', args, {
        FAKE_CUDA_TRACE: file,
      });
      t.equal(code, 0, stderr);
      const trace = readTrace(file);
      for (const { dir, layers, exit } of models) {
        const kernels = (what: string) =>
          kernelsOf(
            trace,
            trace.filter(({ mark }) => mark === `${dir} ${what}`),
          );
        const attended = (what: string): number =>
          kernels(what).filter(({ name }) => /flash_fwd|fmha/i.test(name)).length;
        t.equal(attended('off chunk'), layers, 'without the exit it attends in all layers');
        t.equal(attended('on chunk'), exit, 'a prompt behind the exit attends up to it');
        t.ok(kernels('on chunk').length < kernels('off chunk').length);
        if (kernel === 'fp16') t.equal(attended('on row'), attended('off row'), 'a row attends in all layers');
        const faults = trace.flatMap(({ lines }) =>
          lines.filter((line) => /^(unordered|illegal|outside|foreign)/.test(line)),
        );
        t.strictSame(faults, []);
      }
    });
});
