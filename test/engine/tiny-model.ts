/** The golden tests' tiny model, converted with a KV cache of floats or bytes. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { openSafetensors } from '../../src/convert/formats/hf/safetensors.js';
import { safetensors } from '../convert/tiny.js';

const tiny = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));

/** Every channel of the tiny model's keys and values stays below this. */
const RANGE = 4;

/** Converts the tiny model with exits after two layers and after all. @returns a folder, removed after the test */
export async function tinyModel(
  t: Test,
  kv: 'float' | 'int8',
  kernels: readonly KernelName[] = ['w8a8'],
): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sortie-tiny-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const out = join(dir, kv);
  const source = openSafetensors(join(tiny, 'model.safetensors'));
  const layers = source.names.filter((name) => name.endsWith('k_proj.weight'));
  const [channels = 0] = source.tensor(layers[0] ?? '').shape;
  source.close();
  const range = { shape: [channels], data: new Float32Array(channels).fill(RANGE) };
  const calibration = join(dir, 'ranges.safetensors');
  const names = layers.flatMap((_, i) => [`layers.${i}.k_max`, `layers.${i}.v_max`]);
  await writeFile(calibration, safetensors(names.map((name) => [name, range])));
  await convert({
    source: tiny,
    out,
    exits: [2, layers.length],
    kernels,
    compress: false,
    force: false,
    calibration,
    kv,
  });
  return out;
}
