/**
 * Prompt exits on ONNX Runtime's real CUDA provider, over fake CUDA libraries. Behind the exit a prompt runs no attention,
 * and a row of the answer runs all layers. With the exit off, both do. test/webgpu has the numbers of the same graphs.
 */
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { promptModel, type SwiftClass, writePromptModel } from '../convert/prompt-models.js';
import { runScript, withCuda } from './installation.js';
import { kernelsOf, readTrace } from './trace.js';

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
