/**
 * Which kernels ONNX Runtime's real CUDA provider chooses, over fake CUDA libraries: for every architecture and format, on
 * two generations of cards. The names are those of the provider's functions.
 */
import { basename, join } from 'node:path';
import { crc32 } from 'node:zlib';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { GPU_KERNELS } from '../../src/engine/model/manifest.js';
import {
  type Installation,
  runScript,
  withCuda,
  type Kernel,
  kernelsOf,
  linesOf,
  readTrace,
  type Section,
} from './installation.js';
import { GOLDEN_MODELS, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { random, type Weight } from '../convert/tiny.js';

/** Kernels that copy whole contexts, attend by a scalar, or unpack a whole matrix in each step. */
const SLOW = /GatherAndExpand|PagedDecodeSplitKV|Dequantize/;
/** Most kernels of a layer: two norms, five products, attention's five, and one that gates. */
const MOST = 13;
/** Further ones: norms behind products or of all heads, biases, and an activation with its product for GELU. */
const MORE: Readonly<Record<string, number>> = { gemma2: 3, gemma3: 3, olmo2: 5, qwen2: 1, 'qwen2-window': 1 };
/** Kernels of a stage outside its layers: gather, last sum (three kernels for one row), scatter. */
const OUTSIDE = 5;

await withCuda(t, tests);

async function tests(installation: Installation, folder: string): Promise<void> {
  const models: { name: string; kernel: string; dir: string; layers: number }[] = [];
  for (const name of WIDE_MODELS) {
    const source = writeWideFolder(join(folder, `${name}.source`), name);
    for (const kernel of GPU_KERNELS) {
      const out = join(folder, `${name}-${kernel}`);
      const { architecture } = await convert({ source, out, kernels: [kernel], compress: false, force: false });
      models.push({ name, kernel, dir: out, layers: architecture.layers });
    }
  }

  for (const sm of ['80', '90'])
    await t.test(`compute capability ${sm}`, async (t) => {
      const file = join(folder, `sm${sm}.trace`);
      const dirs = models.map(({ dir }) => dir);
      const variables = { FAKE_CUDA_SM: sm, FAKE_CUDA_TRACE: file };
      const { code, stderr } = await runScript(installation, 'test/cuda/child/kernels.js', dirs, variables);
      t.equal(code, 0, stderr);
      const trace = readTrace(file);
      for (const { name, dir, layers } of models) {
        const sections = (what: string): Section[] => trace.filter(({ mark }) => mark.startsWith(`${dir} ${what}`));
        const slow = (of: readonly Section[]): string[] =>
          of.flatMap((section) => {
            const found = kernelsOf(trace, [section]).filter((each) => SLOW.test(each.name));
            return found.map((each) => `${section.mark.slice(dir.length)}: ${each.name.slice(0, 60)}`);
          });
        for (const what of ['decode', 'long', 'step'])
          t.strictSame(slow(sections(what)), [], `${basename(dir)}: ${what}`);
        const chunk = kernelsOf(trace, sections('chunk')).filter((each) => each.name.includes('GatherAndExpand'));
        t.strictSame(chunk, [], `${basename(dir)}: chunk`);
        const counts = sections('decode').map((section) => kernelsOf(trace, [section]).length);
        const most = (MOST + (MORE[name] ?? 0)) * layers + OUTSIDE;
        t.ok(Math.max(...counts) <= most, `${basename(dir)}: ${counts.join()} kernels of ${layers} layers`);
        const copies = (what: string, direction: string): number[] => [
          ...new Set(sections(what).map((section) => linesOf([section], `copy ${direction}`).length)),
        ];
        t.strictSame(copies('step', 'H2D'), [1], 'a step has one copy to the card');
        t.strictSame(copies('step', 'D2H'), [1], 'and one to the host');
        t.strictSame(copies('sampled', 'H2D'), [2], 'a step that samples has two');
        t.strictSame(copies('sampled', 'D2H'), [1], 'and one to the host');
      }
      const smollm3 = models.find(({ name, kernel }) => name === 'smollm3' && kernel === 'fp16');
      const sections = trace.filter(({ mark }) => mark === `${smollm3?.dir} long 1`);
      const long = kernelsOf(trace, sections);
      const blocks = ({ grid: [x, y, z] }: Kernel): number => x * y * z;
      const flash = long.filter(({ name }) => name.includes('flash_fwd_splitkv_kernel'));
      t.ok(flash.length > 0 && flash.every(({ grid: [, y] }) => y > 1), 'one long sequence is split');
      t.comment(`one row of a long sequence: ${flash.map(blocks).join()} blocks`);
    });
}

// The golden architectures at the widths of real models' multiples: the provider chooses its kernels by shape. Weights are
// those of the wider shapes, and no number of theirs is tested.

/** Widths of a golden model times this are multiples of 64: of its MLP, which granite4 halves, and of its heads. */
const factorOf = (name: string): number => (name === 'granite4' ? 8 : 4);
const WIDTHS = ['hidden_size', 'intermediate_size', 'shared_intermediate_size', 'head_dim', 'vocab_size'];
const CONTEXT = 1024;

/** Architectures that GPUs serve. */
export const WIDE_MODELS = GOLDEN_MODELS.filter((name) => name !== 'ministral3');

/** Writes the folder of a wide model; returns its path. */
export function writeWideFolder(dir: string, name: string): string {
  const model = goldenModel(name);
  const { config } = model;
  const factor = factorOf(name);
  const changes: Record<string, unknown> = { max_position_embeddings: CONTEXT };
  for (const width of WIDTHS) if (typeof config[width] === 'number') changes[width] = config[width] * factor;
  const rope = (config.rope_parameters ?? {}) as Record<string, unknown>;
  const longer = Object.entries(rope).map(([key, value]) => [
    key,
    Array.isArray(value) ? value.flatMap((each: unknown) => new Array<unknown>(factor).fill(each)) : value,
  ]);
  changes.rope_parameters = Object.fromEntries(longer);
  const weights = Object.entries(model.shapes).map(([tensor, shape]): [string, Weight] => {
    const wide = shape.map((width) => width * factor);
    const next = random(crc32(tensor));
    const length = wide.reduce((a, b) => a * b);
    return [tensor, { shape: wide, data: Float32Array.from({ length }, () => next() / 8) }];
  });
  return writeGoldenFolder(dir, model, changes, new Map(weights));
}
