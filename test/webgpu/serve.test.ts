/** The server with `--device webgpu`: answers of every exit, and faults at the start. */
import { spawnSync } from 'node:child_process';
import t from 'tap';
import { post, serve } from '../chaos/helper.js';
import { main, type Sortie } from '../deploy/helper.js';
import { needsGpu, tinyFolder } from './helper.js';

if (needsGpu()) {
  const folder = tinyFolder(t);
  const folders = { cpu: await folder('fp32'), gpu: await folder('fp16') };
  const server = await serve(t, folders.gpu, ['--device', 'webgpu', '--max-running', '8', '--kv-memory', '8MiB']);
  const prompts = ['The sun', 'Rivers flow to', 'a', 'One two three four five six seven eight nine ten', '{"x":'];
  const bodies = prompts.flatMap((prompt) =>
    ['2', '4', '5'].map((exit) => ({
      model: `fp16:${exit}`,
      ...{ prompt, max_tokens: 20, temperature: 0, ignore_eos: true },
    })),
  );

  /** The texts of all bodies, requested together. */
  const texts = async (from: Sortie, name: string): Promise<string[]> =>
    Promise.all(
      bodies.map(async (body) => {
        const response = await post(from, '/v1/completions', { ...body, model: body.model.replace('fp16', name) });
        const { choices } = (await response.json()) as { choices: { text: string }[] };
        return choices[0]?.text ?? '';
      }),
    );

  void t.test('greedy answers of every exit are those of the CPU in fp32', async (t) => {
    const cpu = await serve(t, folders.cpu);
    const [expected, found] = [await texts(cpu, 'fp32'), await texts(server, 'fp16')];
    // A text may leave the other one at a near-tie (engine.test.ts).
    const shares = found.map((text, i) => {
      let common = 0;
      while (common < text.length && text[common] === expected[i]?.[common]) common++;
      return common / Math.max(1, text.length);
    });
    const share = shares.reduce((sum, each) => sum + each, 0) / shares.length;
    t.ok(share >= 0.9, `${share} of the texts are equal up to the first difference`);
    t.ok(found.every((text) => text.length > 0));
  });

  void t.test('the properties name the device and the tokens that its pages hold', async (t) => {
    const props = (await (await fetch(`${server.url}/props`)).json()) as { sortie?: object };
    const text = JSON.stringify(props);
    t.match(text, /"device":"webgpu","cards":\[\{"index":0,"name":"[^"]+","driver":"[^"]+","memory_bytes":\d+/);
    const [, tokens] = /"kv_tokens":(\d+)/.exec(text) ?? [];
    t.equal(Number(tokens ?? NaN) % 64, 0);
  });

  void t.test('a fault at the start is one sentence that names the remedy', (t) => {
    const errorOf = (model: string, device: string, more: readonly string[] = [], env = {}): string => {
      const args = [main, 'serve', '--port', '0', '--host', '127.0.0.1', '--model', model, '--device', device, ...more];
      const options = { encoding: 'utf8', env: { ...process.env, ...env }, timeout: 60_000 } as const;
      const { status, stderr } = spawnSync(process.execPath, args, options);
      t.equal(status, 1);
      return stderr.split('\n').findLast((line) => line.startsWith('error: ')) ?? stderr;
    };
    t.equal(
      errorOf(folders.cpu, 'webgpu'),
      'error: --device webgpu needs a model converted with --kernels fp16 or w8a16 or w4a16',
    );
    t.equal(
      errorOf(folders.gpu, 'cpu'),
      'error: --device cpu cannot run the fp16 kernel; convert with --kernels w8a8, int4 or fp32',
    );
    t.match(
      errorOf(folders.gpu, 'cuda'),
      /^error: --device cuda(:| needs) .*; install NVIDIA's driver and .*\(docs\/gpu\.md\)$/,
    );
    t.equal(
      errorOf(folders.gpu, 'webgpu:1'),
      "error: --device webgpu:1: ONNX Runtime's WebGPU provider computes on one adapter, webgpu:0",
    );
    // Beyond the largest buffer of an adapter, kernels would read zeros.
    t.match(
      errorOf(folders.gpu, 'webgpu', ['--kv-memory', '2TiB']),
      /^error: --kv-memory: the device holds at most \d+ bytes for this model, got 2199023255552$/,
    );
    t.match(
      errorOf(folders.gpu, 'webgpu', [], { VK_ICD_FILENAMES: '/dev/null', VK_DRIVER_FILES: '/dev/null' }),
      /^error: --device webgpu: No supported adapters; install the GPU's Vulkan driver .*mesa-vulkan-drivers\)$/,
    );
    t.end();
  });
}
