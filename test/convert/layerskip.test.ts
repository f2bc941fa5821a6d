/** A LayerSkip checkpoint gets exits without an option; a Llama of another name has full depth alone. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { tinyWeights, writeFolder } from './tiny.js';

async function exitsOf(dir: string, source: string, config: object, card?: string): Promise<number[]> {
  const folder = path.join(dir, source);
  mkdirSync(folder, { recursive: true });
  if (card !== undefined) writeFileSync(path.join(folder, 'README.md'), card);
  writeFolder(folder, tinyWeights(1), { config });
  const out = path.join(dir, 'out');
  const { exits } = await convert({ source: folder, out, kernels: ['fp32'], compress: false, force: false });
  return exits.map(({ layer }) => layer);
}

const CASES: readonly (readonly [name: string, source: string, config: object, card: string | undefined])[] = [
  ['the config', 'a', { _name_or_path: 'facebook/layerskip-llama3.2-1B' }, undefined],
  ['the card', 'a', {}, '---\nlicense: other\n---\n# LayerSkip Llama3.2 1B\n'],
  ['the repository', 'models--facebook--layerskip-llama3-8B/snapshots/0a', {}, undefined],
];

for (const [name, source, config, card] of CASES)
  void t.test(`${name} names LayerSkip`, async (t) => {
    t.strictSame(await exitsOf(t.testdir(), source, config, card), [1, 2, 3]);
  });

void t.test('a Llama without the name has full depth alone', async (t) => {
  t.strictSame(await exitsOf(t.testdir(), 'a', {}, '# Llama\n\nNot LayerSkip.'), [3]);
});
