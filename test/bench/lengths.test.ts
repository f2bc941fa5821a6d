/** The output of bench:lengths: quantiles of lengths with cut answers, and a manifest with only the prior changed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Length, QuestionLengths } from '../../bench/lengths/ask.js';
import { quantiles, withPrior } from '../../bench/lengths/prior.js';
import { fileOf, tableOf } from '../../bench/lengths/report.js';
import { MANIFEST_FILE } from '../../src/model/manifest-io.js';
import { MODEL } from '../engine/helper.js';

const ended = (tokens: number): Length => ({ tokens, isCut: false });
const cut = (tokens: number): Length => ({ tokens, isCut: true });

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
  const answers: QuestionLengths[] = [
    { promptTokens: 5, greedy: { '4': ended(7) }, sampled: { '4': ended(11) } },
    { promptTokens: 6, greedy: { '4': ended(9) }, sampled: { '4': cut(64) } },
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
  t.strictSame(JSON.parse(fileOf('x', 64, answers)), { model: 'x', cap: 64, answers });
  t.strictSame(tableOf([4], answers).slice(2), [
    '| 4 | greedy | 7 | 9 | 8 | 0% |',
    '| 4 | sampled | 11 | 64 | 38 | 50% |',
  ]);
});

void t.test("the embedded model's manifest has the layout that the bench writes", async (t) => {
  const text = readFileSync(join(MODEL, MANIFEST_FILE), 'utf8');
  t.equal(text, `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
});
