/** Models of random weights for bench:engine: the GGUF file, and the plots of a growth run. */
import { join } from 'node:path';
import t from 'tap';
import { growthPlots } from '../../bench/engine/growth.js';
import { writeRandomGguf } from '../../bench/engine/gguf-writer.js';
import { shapeOf } from '../../bench/engine/shapes.js';
import { GROWTH } from '../../bench/scenario.js';
import { GGML_FORMATS } from '../../src/convert/gguf/dequantize.js';
import { readGguf } from '../../src/convert/gguf/reader.js';

void t.test('the converter reads a random GGUF file: metadata, shapes and scales', (t) => {
  const file = join(t.testdir(), 'random.gguf');
  const scale = 0.25;
  // Blocks in Q6_K have a scale of this size: a half below the least normal one.
  const least = 2 ** -20;
  writeRandomGguf(
    file,
    { 'general.architecture': { string: 'llama' }, 'llama.block_count': { u32: 3 }, words: { strings: ['a', 'bc'] } },
    [
      { name: 'bytes', shape: [3, 64], format: 'Q8_0', scale },
      { name: 'norm', shape: [7], format: 'F32', scale },
      { name: 'nibbles', shape: [5, 32], format: 'Q4_0', scale },
      { name: 'sixes', shape: [2, 512], format: 'Q6_K', scale: least },
    ],
  );
  const gguf = readGguf(file);
  t.teardown(() => {
    gguf.file.close();
  });
  t.equal(gguf.metadata.get('general.architecture'), 'llama');
  t.equal(gguf.metadata.get('llama.block_count'), 3);
  t.same(gguf.metadata.get('words'), ['a', 'bc']);
  const decoded = (name: string): Float32Array => {
    const { shape = [], type = -1, offset = 0 } = gguf.tensors.get(name) ?? {};
    const format = GGML_FORMATS.get(type);
    const out = new Float32Array(shape.reduce((a, b) => a * b, 1));
    const { bytes = 0, block = 1 } = format ?? {};
    format?.decode(gguf.file.read(offset, (out.length / block) * bytes, name), out);
    return out;
  };
  t.same([...decoded('norm')], new Array(7).fill(scale));
  for (const [name, most, unit] of [
    ['bytes', 128, scale],
    ['nibbles', 8, scale],
    ['sixes', 128 * 32, least],
  ] as const) {
    const values = [...decoded(name)];
    t.ok(
      values.every((value) => Number.isInteger(value / unit) && Math.abs(value / unit) <= most),
      name,
    );
    t.ok(new Set(values).size > Math.min(most, 512) / 4, `${name} are random`);
  }
  t.end();
});

void t.test('an unknown shape names the known ones', (t) => {
  t.throws(() => shapeOf('llama-9b'), { message: '--shape must be one of llama-1b, smollm-135m, got "llama-9b"' });
  t.end();
});

void t.test('a growth run has 1 to 64 streams, contexts up to 8,192, and two plots', (t) => {
  t.same(
    [Math.min(...GROWTH.map(({ parallel }) => parallel)), Math.max(...GROWTH.map(({ parallel }) => parallel))],
    [1, 64],
  );
  t.equal(Math.max(...GROWTH.map(({ promptTokens, answerTokens }) => promptTokens + answerTokens)), 8192);
  const rates = GROWTH.map(({ parallel }) => ({ prefill: 1000, decode: 100 * parallel }));
  const plots = growthPlots(GROWTH, [{ name: 'side', rates }]);
  t.same(
    plots.map(([end]) => end),
    ['rate.svg', 'time.svg'],
  );
  for (const [end, svg] of plots) t.match(svg, /^<svg[^]*side, 95[^]*side, 8159/, end);
  t.end();
});
