/** The utility of an answer: by its exit, and by how early it ends. */
import t from 'tap';
import { type PartialValue, Utility } from '../../src/engine/scheduler/planned-request.js';
import { accuracy, shape } from './sample.js';

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

void t.test('an exit gives its measured share of right answers', async (t) => {
  t.same(
    shape.exits.map((_, exit) => measured.accuracy(exit)),
    accuracy,
  );
  t.throws(() => measured.accuracy(5), RangeError);
});

void t.test('behind longer prompts an exit gives what was measured there', async (t) => {
  const accuracyByPrompt = [
    [40, 0.4],
    [400, 0.2],
  ] as const;
  const early = { layer: 1, stage: 0, block: null, accuracy: 0.4, accuracyByPrompt };
  const full = { layer: 2, stage: 1, block: null, accuracy: 1 };
  const utility = new Utility({ stages: ['a', 'b'], exits: [early, full] }, null);
  for (const [tokens, expected] of [
    [10, 0.4],
    [220, 0.3],
    [9000, 0.2],
  ] as const)
    t.ok(near(utility.accuracy(0, tokens), expected), `${tokens}: ${utility.accuracy(0, tokens)}`);
  t.equal(utility.accuracy(1, 9000), 1);
  t.equal(utility.shallowest(0, 1, 0.25, 10), 0);
  t.equal(utility.shallowest(0, 1, 0.25, 400), 1, 'too few right answers');
  t.equal(utility.shallowest(0, 0, 0.25, 400), 0, 'a pinned exit');
  t.equal(measured.shallowest(0, 1, 0.9, 400), 0, 'no measurement by length');
});
