/** The output of bench:lengths: quantiles of lengths with cut answers, and a manifest with only the prior changed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Length, quantiles, withPrior } from '../../bench/lengths/prior.js';
import { MANIFEST_FILE } from '../../src/engine/model/manifest-io.js';
import { MODEL } from '../engine/helper.js';

const ended = (tokens: number): Pick<Length, 'tokens' | 'isCut'> => ({ tokens, isCut: false });
const cut = (tokens: number): Pick<Length, 'tokens' | 'isCut'> => ({ tokens, isCut: true });

void t.test('quantiles omit a share that reaches into the cut answers', async (t) => {
  const lengths = Array.from({ length: 100 }, (_, i) => (i < 85 ? ended(100 - i) : cut(200)));
  t.strictSame(quantiles(lengths), [
    [0.05, 20],
    [0.1, 25],
    [0.2, 35],
    [0.3, 45],
    [0.4, 55],
    [0.5, 65],
    [0.6, 75],
    [0.7, 85],
    [0.8, 95],
  ]);
  t.strictSame(quantiles([cut(9), cut(9)]), []);
});

void t.test('quantiles keep the largest of several shares with the same length', async (t) => {
  t.strictSame(quantiles([ended(3), ended(3), ended(8), ended(8)]), [
    [0.5, 3],
    [0.98, 8],
  ]);
});

void t.test('withPrior adds the prior of each exit and keeps everything else, order and indent', async (t) => {
  const exit = { layer: 4, stage: 0 };
  const text = `${JSON.stringify({ name: 'x', exits: [exit], files: [] }, null, 2)}\n`;
  const answers: Length[] = [
    { exit: 4, kind: 'greedy', ...ended(7) },
    { exit: 4, kind: 'sampled', ...ended(11) },
    { exit: 4, kind: 'greedy', ...ended(9) },
    { exit: 4, kind: 'sampled', ...cut(64) },
    { exit: 2, kind: 'greedy', ...ended(1) },
  ];
  const expected = {
    chat: [
      [0.2, 7],
      [0.5, 9],
      [0.7, 11],
    ],
  };
  const written = withPrior(text, answers);
  t.equal(written, `${JSON.stringify({ name: 'x', exits: [{ ...exit, lengths: expected }], files: [] }, null, 2)}\n`);
  t.equal(withPrior(written, answers), written, 'a second call changes nothing');
});

void t.test("the embedded model's manifest has the layout that the bench writes", async (t) => {
  const text = readFileSync(join(MODEL, MANIFEST_FILE), 'utf8');
  t.equal(text, `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
});
