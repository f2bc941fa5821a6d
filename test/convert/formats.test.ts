/** Number formats: GGML blocks, halves, and parts of the quantizers. */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import t from 'tap';
import { GGML_FORMATS, HALF_TO_FLOAT } from '../../src/convert/formats/dequantize.js';
import { floatToHalf } from '../../src/convert/weight.js';
import { inverseFrequencies, llama3Factor } from '../../src/convert/rope.js';
import { ropeScalingFromFactors } from '../../src/convert/architectures/rotary.js';
import { ggufPart, ggufPaths } from '../../src/util/gguf-parts.js';
import { run, writeGguf, writeGgufParts, tinyWeights } from './tiny.js';

/** One or two blocks of each GGML format, and their floats by gguf-py (llama.cpp's own reader), in base64. */
const golden = fileURLToPath(new URL('../../../test/golden/ggml-blocks.json', import.meta.url));
const GGML_BLOCKS = JSON.parse(readFileSync(golden, 'utf8')) as GgmlBlocks[];

interface GgmlBlocks extends Record<'name' | 'bytes' | 'floats', string> {
  readonly type: number;
}

for (const { type, name, bytes, floats } of GGML_BLOCKS)
  void t.test(`${name} decodes as in llama.cpp`, async (t) => {
    const format = GGML_FORMATS.get(type);
    const source = Buffer.from(bytes, 'base64');
    const expected = new Float32Array(new Uint8Array(Buffer.from(floats, 'base64')).buffer);
    const out = new Float32Array(expected.length);
    t.equal(format?.name, name);
    t.equal((expected.length / (format?.block ?? 0)) * (format?.bytes ?? 0), source.length, 'block size');
    format?.decode(source, out);
    out.forEach((value, i) => {
      if (Math.abs(value - (expected[i] ?? NaN)) > 1e-6 * Math.abs(value) + 1e-7)
        t.fail(`weight ${i}: ${value}, not ${expected[i]}`);
    });
  });

void t.test('every half converts to a float and back', async (t) => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = HALF_TO_FLOAT[bits] ?? NaN;
    if (Number.isNaN(value)) continue;
    if (floatToHalf(value) !== bits) t.fail(`0x${bits.toString(16)} became 0x${floatToHalf(value).toString(16)}`);
  }
  t.equal(floatToHalf(1 + 2 ** -11), 0x3c00, 'ties round to even');
  t.equal(floatToHalf(1 + 3 * 2 ** -11), 0x3c02, 'ties round up to even');
  t.equal(floatToHalf(65520), 0x7c00, 'overflow is infinity');
});

void t.test('llama3 scaling is recovered from GGUF factors', async (t) => {
  const scaling = { type: 'llama3' as const, factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalContext: 8192 };
  const rotary = { width: 64, theta: 500000, scaling: null };
  const factors = inverseFrequencies(rotary, 8192).map((frequency) => llama3Factor(frequency, scaling));
  t.strictSame(ropeScalingFromFactors(factors, rotary, 8192, 'x.gguf'), scaling);
  t.equal(ropeScalingFromFactors(new Float32Array(32).fill(1), rotary, 8192, 'x.gguf'), null);
  factors[20] = 7;
  t.throws(() => ropeScalingFromFactors(factors, rotary, 8192, 'x.gguf'), {
    name: 'ConvertError',
    message: /rope_freqs\[20\] = 7 is not a llama3 scaling/,
  });
});

// GGUF models in parts, as llama.cpp splits them.

void t.test('a model in parts becomes the same folder as the whole one, from any part', async (t) => {
  const [dir, whole] = [t.testdir({ first: {}, second: {} }), t.testdir({ whole: {} })];
  await run(whole, writeGguf(whole, tinyWeights(1)));
  const parts = writeGgufParts(dir, tinyWeights(1), 3);
  for (const [name, source = ''] of [
    ['first', parts[0]],
    ['second', parts[1]],
  ] as const) {
    await run(join(dir, name), source);
    for (const file of readdirSync(join(whole, 'out')))
      if (file !== 'manifest.json')
        t.ok(readFileSync(join(dir, name, 'out', file)).equals(readFileSync(join(whole, 'out', file))), file);
  }
});

void t.test('only a number of its count makes a part', (t) => {
  t.same(ggufPart('a/m-00002-of-00003.GGUF'), { stem: 'a/m', number: 2, count: 3 });
  t.same(ggufPaths('m-00002-of-00002.GGUF'), ['m-00001-of-00002.GGUF', 'm-00002-of-00002.GGUF']);
  for (const name of ['m.gguf', 'm-00004-of-00003.gguf', 'm-00000-of-00000.gguf', 'm-1-of-2.gguf', 'm-00001-of-00002'])
    t.same(ggufPaths(name), [name]);
  t.end();
});
