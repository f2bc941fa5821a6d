/**
 * A KV cache of bytes: decoding and catching up leave the same bits, so depth may change in mid-answer, and a sequence
 * be resumed, without a trace.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { openSafetensors } from '../../src/convert/hf/safetensors.js';
import { loadManifest } from '../../src/model/manifest-io.js';
import { safetensors } from '../convert/tiny.js';
import { advanceTo, distance, logitsAt, makeExecutor, openSlot } from './helper.js';

const tiny = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));
const dir = await mkdtemp(join(tmpdir(), 'sortie-kv-'));
t.teardown(() => rm(dir, { recursive: true }));

/** Every channel of the tiny model's keys and values stays below this. */
const RANGE = 4;

async function tinyModel(kv: 'float' | 'int8'): Promise<string> {
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
    kernels: ['w8a8'],
    block: 32,
    compress: false,
    force: false,
    calibration,
    kv,
  });
  return out;
}

const bytesModel = await tinyModel('int8');
const floatModel = await tinyModel('float');
const executor = await makeExecutor(t, { modelDir: bytesModel });
const context = loadManifest(bytesModel).architecture.context;
const prompt = Array.from({ length: Math.min(context - 1, 60) }, (_, i) => 2 + ((i * 37) % 200));
const last = prompt.length - 1;

t.afterEach(() => {
  executor.forget(0);
});

void t.test('a position takes a quarter of the bytes', async (t) => {
  const floats = await makeExecutor(t, { modelDir: floatModel });
  t.equal(executor.model.bytesPerPosition * 4, floats.model.bytesPerPosition);
});

void t.test('answers are those of a cache of floats but for rounding', async (t) => {
  const floats = await makeExecutor(t, { modelDir: floatModel });
  for (const exit of [0, 1]) {
    const [bytes, expected] = [executor, floats].map((each) => {
      const slot = openSlot(each, prompt);
      advanceTo(each, slot, exit, last);
      return logitsAt(each, slot, exit);
    });
    const error = distance(bytes ?? new Float32Array(0), expected ?? new Float32Array(0));
    t.ok(error > 0 && error < 0.5, `exit ${exit}: ${error}`);
  }
});

void t.test('decoding leaves the bits that a chunk leaves, shallow first or not', async (t) => {
  const chunked = openSlot(executor, prompt);
  advanceTo(executor, chunked, 1, last);
  const expected = logitsAt(executor, chunked, 1);
  for (const shallow of [0, 15, 30]) {
    const slot = openSlot(executor, prompt.slice(0, 11));
    advanceTo(executor, slot, 0, 10);
    if (shallow === 0) advanceTo(executor, slot, 1, 10);
    for (let next = 11; next <= last; next++) {
      const exit = next - 11 < shallow ? 0 : 1;
      // What the deep stage missed while the sequence left early is caught up in one chunk.
      advanceTo(executor, slot, exit, next - 1);
      executor.decode([{ slot, exit: executor.exit(exit) }]);
      slot.tokens.push(prompt[next] ?? -1);
    }
    t.equal(distance(logitsAt(executor, slot, 1), expected), 0, `${shallow} tokens at the shallow exit`);
  }
});
