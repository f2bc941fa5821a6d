/** The utility of an answer: by its exit, and by how early it ends. */
import t from 'tap';
import type { DepthShape } from '../../src/engine/scheduler/cost/model.js';
import { type PartialValue, Utility } from '../../src/engine/scheduler/utility.js';
import { right, shape } from './sample.js';

const near = (found: number, expected: number): boolean => Math.abs(found - expected) < 1e-12;
const curve: PartialValue = [
  [10, 0.4],
  [20, 0.8],
  [40, 1],
];
const measured = new Utility(shape, curve);

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
    t.ok(near(measured.partialValue(tokens), share), `${measured.partialValue(tokens)}`);
  });
}

void t.test('without a measurement, more tokens keep more, up to all', async (t) => {
  const utility = new Utility(shape, null);
  let before = -1;
  for (const tokens of [0, 4, 8, 16, 32, 64, 160, 320]) {
    t.ok(utility.partialValue(tokens) > before, `${tokens}: ${utility.partialValue(tokens)}`);
    before = utility.partialValue(tokens);
  }
  t.equal(utility.partialValue(0), 0);
  t.equal(before, 1);
});

void t.test('without audits an exit gives its measured share of right answers', async (t) => {
  t.same(
    shape.exits.map((_, exit) => measured.accuracy(exit)),
    right,
  );
  t.throws(() => measured.accuracy(5), RangeError);
});

const mapped = (...exits: (readonly [quality: number, right: number])[]): Utility => {
  const of = ([quality, share]: readonly [number, number], i: number): DepthShape['exits'][number] => {
    return { layer: i + 1, stage: i, block: null, quality, right: share };
  };
  return new Utility({ stages: exits.map((_, i) => `s${i}`), exits: exits.map(of) }, null);
};
const two = mapped([0.5, 0.4], [1, 1]);

for (const [name, utility, agreement, expected] of [
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
    t.ok(near(utility.accuracy(0, agreement), expected), `${utility.accuracy(0, agreement)}`);
    t.equal(utility.accuracy(1, agreement), utility.accuracy(0, agreement), 'whatever the exit');
  });
}

void t.test('behind longer prompts an exit gives what was measured there, and audits scale it', async (t) => {
  const rightByPrompt = [
    [40, 0.4],
    [400, 0.2],
  ] as const;
  const early = { layer: 1, stage: 0, block: null, quality: 0.5, right: 0.4, rightByPrompt };
  const full = { layer: 2, stage: 1, block: null, quality: 1, right: 1 };
  const utility = new Utility({ stages: ['a', 'b'], exits: [early, full] }, null);
  for (const [agreement, tokens, expected] of [
    [undefined, 10, 0.4],
    [undefined, 220, 0.3],
    [undefined, 9000, 0.2],
    [0.5, 400, 0.2],
    [0.75, 10, 0.7],
    [0.75, 400, 0.35],
    [0, 400, 0],
  ] as const)
    t.ok(
      near(utility.accuracy(0, agreement, tokens), expected),
      `${tokens}: ${utility.accuracy(0, agreement, tokens)}`,
    );
  t.equal(utility.accuracy(1, undefined, 9000), 1);
  t.equal(utility.shallowest(0, 1, 0.25, 10), 0);
  t.equal(utility.shallowest(0, 1, 0.25, 400), 1, 'too few right answers');
  t.equal(utility.shallowest(0, 0, 0.25, 400), 0, 'a pinned exit');
  t.equal(two.shallowest(0, 1, 0.9, 400), 0, 'no measurement by length');
});
