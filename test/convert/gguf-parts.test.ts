/** GGUF models in parts, as llama.cpp splits them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ggufPart, ggufPaths } from '../../src/util/gguf-parts.js';
import { run, writeGguf, writeGgufParts } from './conversion.js';
import { tinyWeights } from './tiny.js';

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
