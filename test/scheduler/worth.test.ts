/** The worth of an answer: by its exit, and by how early it ends. */
import t from 'tap';
import type { DepthShape } from '../../src/cost/model.js';
import { type Kept, Worth } from '../../src/scheduler/output-length.js';
import { right, shape } from './sample.js';

const near = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-12;
const kept: Kept = [
  [10, 0.4],
  [20, 0.8],
  [40, 1],
];
const measured = new Worth(shape, kept);

for (const [tokens, share] of [
  [-1, 0],
  [0, 0],
  [5, 0.2],
  [10, 0.4],
  [15, 0.6],
  [20, 0.8],
  [30, 0.9],
  [40, 1],
  [41, 1],
  [Infinity, 1],
] as const) {
  void t.test(`${tokens} tokens keep ${share} by a measured curve`, async (t) => {
    t.ok(near(measured.kept(tokens), share), `${measured.kept(tokens)}`);
  });
}

void t.test('without a measurement, more tokens keep more, up to all', async (t) => {
  const worth = new Worth(shape, null);
  let before = -1;
  for (const tokens of [0, 4, 8, 16, 32, 64, 160, 320]) {
    t.ok(worth.kept(tokens) > before, `${tokens}: ${worth.kept(tokens)}`);
    before = worth.kept(tokens);
  }
  t.equal(worth.kept(0), 0);
  t.equal(before, 1);
});

void t.test('without audits an exit gives its measured share of right answers', async (t) => {
  t.same(
    shape.exits.map((_, exit) => measured.right(exit)),
    right,
  );
  t.throws(() => measured.right(5), RangeError);
});

const mapped = (...exits: (readonly [quality: number, right: number])[]): Worth => {
  const of = ([quality, share]: readonly [number, number], i: number): DepthShape['exits'][number] => {
    return { layer: i + 1, stage: i, block: null, quality, right: share };
  };
  return new Worth({ stages: exits.map((_, i) => `s${i}`), exits: exits.map(of) }, null);
};
const two = mapped([0.5, 0.4], [1, 1]);

for (const [name, worth, agreement, expected] of [
  ['the measured agreement gives the measured share', two, 0.5, 0.4],
  ['that of full depth gives all', two, 1, 1],
  ['half-way is half-way', two, 0.75, 0.7],
  ['below the first exit the share falls to none', two, 0.25, 0.2],
  ['no agreement gives no right answer', two, 0, 0],
  ['above the last exit nothing is gained', mapped([0.5, 0.4], [0.9, 0.8]), 1, 0.8],
  ['exits may be in any order of agreement', mapped([1, 1], [0.5, 0.4]), 0.75, 0.7],
  ['an exit of more agreement is worth no less', mapped([0.5, 0.6], [0.75, 0.4], [1, 1]), 0.75, 0.6],
  ['exits of equal agreement map to the better one', mapped([0.5, 0.4], [0.5, 0.6], [1, 1]), 0.75, 0.8],
] as const) {
  void t.test(`audits: ${name}`, async (t) => {
    t.ok(near(worth.right(0, agreement), expected), `${worth.right(0, agreement)}`);
    t.equal(worth.right(1, agreement), worth.right(0, agreement), 'whatever the exit');
  });
}
