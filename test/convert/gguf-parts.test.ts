/** GGUF models in parts, as llama.cpp splits them. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ggufPart, ggufPaths } from '../../src/util/gguf-parts.js';
import { run, writeGguf, writeGgufParts } from './conversion.js';
import { gguf, ggufMetadata, tinyWeights } from './tiny.js';

void t.test('a model in parts becomes the same folder as the whole one, from any part', async (t) => {
  const [dir, whole] = [t.testdir({ first: {}, second: {} }), t.testdir({ whole: {} })];
  await run(whole, writeGguf(whole, tinyWeights(1)));
  const parts = writeGgufParts(dir, tinyWeights(1), 3);
  for (const [name, source] of [
    ['first', parts[0]],
    ['second', parts[1]],
  ] as const) {
    await run(join(dir, name), source ?? '');
    for (const file of readdirSync(join(whole, 'out')))
      if (file !== 'manifest.json')
        t.ok(readFileSync(join(dir, name, 'out', file)).equals(readFileSync(join(whole, 'out', file))), file);
  }
});

void t.test('a part that is missing, of another model, repeated or not complete is named', async (t) => {
  const [weights, metadata] = [tinyWeights(1), ggufMetadata()];
  const write = (file: string | undefined, content: Buffer): void => {
    writeFileSync(file ?? '', content);
  };
  type Case = readonly [message: RegExp, damage: (parts: readonly string[]) => void];
  const cases: Case[] = [
    [
      /tiny-00001-of-00003\.gguf is one of 3 parts, and .*tiny-00002-of-00003\.gguf is missing$/,
      ([, second = '']) => {
        rmSync(second);
      },
    ],
    [
      /tiny-00002-of-00003\.gguf must have a name like model-00001-of-00003\.gguf, since it is part 3 of 3$/,
      ([, second, third = '']) => {
        write(second, readFileSync(third));
      },
    ],
    [
      /tiny-00002-of-00003\.gguf repeats the tensor token_embd\.weight of an earlier part$/,
      ([, second]) => {
        write(second, gguf(weights, { 'split.no': 1, 'split.count': 3 }));
      },
    ],
    [
      /tiny-00001-of-00003\.gguf must have 99 tensors in all parts, got \d+$/,
      ([first]) => {
        write(first, gguf(new Map(), { ...metadata, 'split.no': 0, 'split.count': 3, 'split.tensors.count': 99 }));
      },
    ],
  ];
  for (const [message, damage] of cases)
    await t.test(message.source, async (t) => {
      const dir = t.testdir({});
      const parts = writeGgufParts(dir, weights, 3);
      damage(parts);
      await t.rejects(run(dir, parts[0] ?? ''), { name: 'ConvertError', isUsage: false, message });
    });
});

void t.test('only a number of its count makes a part', (t) => {
  t.same(ggufPart('a/m-00002-of-00003.GGUF'), { stem: 'a/m', number: 2, count: 3 });
  t.same(ggufPaths('m-00002-of-00002.GGUF'), ['m-00001-of-00002.GGUF', 'm-00002-of-00002.GGUF']);
  for (const name of ['m.gguf', 'm-00004-of-00003.gguf', 'm-00000-of-00000.gguf', 'm-1-of-2.gguf', 'm-00001-of-00002'])
    t.same(ggufPaths(name), [name]);
  t.end();
});
