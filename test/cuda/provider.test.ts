/**
 * The engine on ONNX Runtime's real CUDA provider, over fake CUDA libraries: which nodes the provider takes, and which
 * calls it and Sortie make. Kernels do nothing, so no number is tested.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { externalTensors } from '../../src/engine/model/onnx-weights.js';
import { goldenLoops, goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { type Installation, runScript, withCuda, linesOf, memoryOf, readTrace, type Section } from './installation.js';

const STEPS = 1000;
const ROWS = 4;
/** `kvMemoryBytes` of child/serve.ts. */
const KV_BYTES = 2 ** 26;

await withCuda(t, tests);

async function tests(installation: Installation, folder: string): Promise<void> {
  const source = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));
  const model = join(folder, 'fp16');
  const exitBlocks = join(source, 'exit-blocks.safetensors');
  const convertTo = async (out: string, kernel: KernelName): Promise<void> => {
    await convert({ source, out, exits: [1, 2, 5], exitBlocks, kernels: [kernel], compress: false, force: false });
  };
  await convertTo(model, 'fp16');
  const script = async (
    name: string,
    args: readonly string[],
    variables: NodeJS.ProcessEnv = {},
  ): Promise<{ code: number; stdout: string; stderr: string; trace: Section[] }> => {
    const file = join(folder, `${name}.trace`);
    const result = await runScript(installation, `test/cuda/child/${name}.js`, args, {
      ...variables,
      FAKE_CUDA_TRACE: file,
    });
    return { ...result, trace: readTrace(file) };
  };

  for (const kernel of ['fp16', 'w8a16', 'w4a16'] as const)
    await t.test(`the provider takes every node of a folder in ${kernel}`, async (t) => {
      const out = join(folder, kernel);
      if (kernel !== 'fp16') await convertTo(out, kernel);
      const graphs = readdirSync(out).filter((name) => name.endsWith('.onnx'));
      const paths = graphs.map((name) => join(out, name));
      const { code, stdout, stderr } = await script('place', paths);
      t.equal(code, 0, stderr);
      const placed = JSON.parse(stdout || '{}') as { devices: object[]; graphs: object[]; bytes: string | null };
      t.match(placed.devices, [{ index: 0, name: 'fake', driver: 'CUDA 13.0', memoryBytes: 80 * 2 ** 30 }]);
      t.strictSame(
        placed.graphs,
        paths.map((path) => [path, null]),
      );
      t.match(placed.bytes, /default CPU EP/, 'a product of bytes has no kernel, and is an error');
    });

  await t.test(`${STEPS} steps`, async (t) => {
    const { code, stdout, stderr, trace } = await script('serve', [model, String(STEPS), String(ROWS)]);
    t.equal(code, 0, stderr);
    const { tokens } = JSON.parse(stdout || '{}') as { tokens: number };
    const start = trace.findIndex(({ mark }) => mark === 'serve');
    const served = trace.slice(start);
    const { taken, planned } = memoryOf(trace.slice(0, start), stdout);
    // Weights, control data, and one arena for the intermediate results of all sessions.
    const [table] = externalTensors(join(model, 'embed.onnx'));
    t.equal(linesOf(trace, `alloc ${table?.length}`).length, 1, 'embedding and head share one table');
    t.ok(taken - KV_BYTES < 5 * 2 ** 20, `${taken - KV_BYTES} bytes beside the KV cache`);
    t.ok(Math.abs(taken - planned) < 4 * 2 ** 20, `${taken} bytes, ${planned} by the plan`);
    t.ok(tokens > 2 * STEPS, `${tokens} tokens`);
    t.strictSame(linesOf(trace, 'outside'), [], 'every copy stays inside its memory');
    t.strictSame(linesOf(served, 'unordered'), [], 'every run is ordered with the copies before it');
    t.equal(new Set([...linesOf(served, 'kernel'), ...linesOf(served, 'copy')].map(streamOf)).size, 1, 'one stream');
    t.strictSame(linesOf(served, 'alloc'), [], 'no step takes memory of the device');
    t.strictSame(linesOf(served, 'hostalloc'), [], 'no step takes pinned memory');
    const steps = served.flatMap((section, index) => {
      const end = /^end (.*)/.exec(served[index + 1]?.mark ?? '')?.[1];
      return end === undefined ? [] : [{ section, ...(JSON.parse(end) as { rows: number }) }];
    });
    const perStep = ['kernel', 'copy H2D', 'copy D2D', 'copy D2H', 'wait'].map(
      (start) => `${start} ${(linesOf(served, start).length / STEPS).toFixed(1)}`,
    );
    t.comment(`a step: ${perStep.join(', ')}`);
    t.equal(steps.length, STEPS);
    const counts = (start: string): number[] => [
      ...new Set(steps.filter(({ rows }) => rows > 0).map(({ section }) => linesOf([section], start).length)),
    ];
    t.strictSame(counts('copy D2H'), [1], 'a step with tokens copies one result to the host');
    t.strictSame(counts('wait'), [1], 'and waits once');
    // Token ids, the rows of the head, and the control data of three stages and two exit blocks.
    t.ok(Math.max(...counts('copy H2D')) <= 7, `copies to the card: ${counts('copy H2D').join()}`);
  });

  await t.test('captured graphs of decode batches', async (t) => {
    const args = [model, '300', '4', '16', '110', 'fp16-graph'];
    const { code, stderr, trace } = await script('serve', args);
    t.equal(code, 0, stderr);
    const start = trace.findLastIndex(({ mark }) => mark === 'serve');
    const served = trace.slice(start);
    t.strictSame(linesOf(trace, 'illegal'), [], 'no call that a capture forbids');
    for (const fault of ['outside', 'unordered', 'foreign', 'alloc', 'hostalloc', 'capture'])
      t.strictSame(linesOf(served, fault), [], fault);
    const loaded = trace.slice(
      trace.findLastIndex(({ mark }) => mark === 'load'),
      start,
    );
    // Three stages and two blocks, for 1, 2, 4, 8, 16 rows and all: 4 that decode, and slots of prefixes.
    t.equal(linesOf(loaded, 'capture').length, 5 * 6);
    const steps = served.filter((_, index) => /^end .*"rows":[1-9]/.test(served[index + 1]?.mark ?? ''));
    const replayed = steps.filter((step) => linesOf([step], 'launch').length === 5);
    t.ok(replayed.length > 20, `${replayed.length} steps of all units`);
    const kernels = Math.max(...replayed.map((step) => linesOf([step], 'kernel').length));
    t.ok(kernels <= 20, `${kernels} kernels of embedding, crossings, head and choice beside 5 launches`);
  });

  await t.test('loops share one session, and each captures graphs of its own', async (t) => {
    const looped = goldenLoops('ouro-4');
    const from = writeGoldenFolder(join(folder, 'ouro'), looped);
    const out = join(folder, 'looped');
    await convert({ source: from, out, kernels: ['fp16'], compress: false, force: false });
    // All ids of prompts of 12 tokens are in the vocabulary of 96.
    const { code, stdout, stderr, trace } = await script('serve', [out, '100', '4', '16', '12', 'fp16-graph']);
    t.equal(code, 0, stderr);
    const start = trace.findLastIndex(({ mark }) => mark === 'serve');
    const served = trace.slice(start);
    // The trace goes on behind that of the test before.
    const before = trace.slice(0, start);
    const loaded = before.slice(before.findLastIndex(({ mark }) => mark.startsWith('end ')));
    for (const fault of ['illegal', 'outside', 'unordered', 'foreign', 'alloc', 'hostalloc', 'capture'])
      t.strictSame(linesOf(served, fault), [], fault);
    t.equal(linesOf(loaded, 'capture').length, 4 * 6, 'four loops, for six numbers of rows');
    const steps = served.filter((_, index) => /^end .*"rows":[1-9]/.test(served[index + 1]?.mark ?? ''));
    const launches = steps.map((step) => linesOf([step], 'launch').length);
    t.equal(Math.max(...launches), 4, 'a step replays all loops');
    const { taken, planned } = memoryOf(loaded, stdout);
    t.ok(Math.abs(taken - planned) < 4 * 2 ** 20, `${taken} bytes, ${planned} by the plan`);
  });

  await t.test('Gemma 4: heads of two sizes, inputs of each layer, and shared keys', async (t) => {
    const from = writeGoldenFolder(join(folder, 'gemma4'), goldenModel('gemma4'), { max_position_embeddings: 512 });
    for (const kernel of ['fp16', 'w8a16', 'w4a16'] as const) {
      const out = join(folder, `gemma4-${kernel}`);
      await convert({ source: from, out, kernels: [kernel], compress: false, force: false });
      const { code, stdout, stderr, trace } = await script('serve', [out, '100', '4', '16', '12', `${kernel}-graph`]);
      t.equal(code, 0, stderr);
      const start = trace.findLastIndex(({ mark }) => mark === 'serve');
      const before = trace.slice(0, start);
      for (const fault of ['illegal', 'outside', 'unordered', 'foreign', 'alloc', 'hostalloc', 'capture'])
        t.strictSame(linesOf(trace.slice(start), fault), [], fault);
      const loaded = before.slice(before.findLastIndex(({ mark }) => mark.startsWith('end ')));
      const { taken, planned } = memoryOf(loaded, stdout);
      t.ok(Math.abs(taken - planned) < 4 * 2 ** 20, `${kernel}: ${taken} bytes, ${planned} by the plan`);
    }
  });

  await t.test('a fault of the card ends each answer with a sentence, and the engine starts again', async (t) => {
    const sentence = (reason: RegExp): RegExp =>
      new RegExp(`^--device cuda: the GPU failed in a step \\(.*${reason.source}\\); the engine starts again; if`);
    for (const [code, reason] of [
      ['700', /an illegal memory access was encountered/],
      ['214', /uncorrectable ECC error encountered/],
    ] as const) {
      const variables = { FAKE_CUDA_FAIL_AT: join(folder, `failure-${code}`) };
      const { stdout, stderr } = await script('fault', [model, code], variables);
      const lost = [sentence(reason), sentence(reason), sentence(reason)];
      t.match(JSON.parse(stdout || '[]'), [lost, ['ended'], lost, ['ended']], stderr);
    }
  });

  await t.test('a machine without a card, or with too little memory, gets a sentence', async (t) => {
    const errorOf = async (device: string, variables: NodeJS.ProcessEnv): Promise<string> => {
      const args = ['serve', '--model', model, '--device', device, '--port', '0', '--kv-memory', '8MiB'];
      const { code, stderr } = await runScript(installation, 'src/main.js', args, variables);
      t.equal(code, 1, stderr);
      return stderr.split('\n').findLast((line) => line.startsWith('error: ')) ?? stderr;
    };
    t.match(
      await errorOf('cuda', { FAKE_CUDA_DEVICES: '0' }),
      /^error: --device cuda: cuInit: no CUDA-capable device is detected; install NVIDIA's driver/,
    );
    t.equal(
      await errorOf('cuda', { FAKE_CUDA_DRIVER: '12080' }),
      "error: --device cuda: the driver supports CUDA 12.8, and ONNX Runtime's CUDA provider needs CUDA 13.0; install NVIDIA's driver 580 or a later one",
    );
    t.equal(
      await errorOf('cuda:2', { FAKE_CUDA_DEVICES: '2' }),
      'error: --device cuda:2: the driver has 2 device(s), numbered from 0',
    );
    const lacking = async (mebibytes: string): Promise<string> => errorOf('cuda', { FAKE_CUDA_MEMORY_MIB: mebibytes });
    const [, fits = ''] = /KV cache and states .* GiB free; --kv-memory (\d+MiB) fits$/.exec(await lacking('8')) ?? [];
    t.ok(fits.endsWith('MiB'), `${fits} fits`);
    t.match(await lacking('1'), /the device has 0\.00 GiB free; no --kv-memory fits; convert with --kernels w4a16/);
  });
}

function streamOf(line: string): string {
  return / (s\d+)/.exec(line)?.[1] ?? 'none';
}
