/** Tokens where what an answer keeps to leaves no choice. */
import t from 'tap';
import { chooseTokens } from '../../src/engine/choose.js';
import type { Constraint } from '../../src/engine/constraint.js';
import { Sequence } from '../../src/engine/sequence.js';
import type { HeadLane } from '../../src/model/head-lane.js';
import { greedy } from '../../bench/greedy-request.js';

const VOCAB = 8;
/** Falling: 0 is what the model would rather say. */
const logits = Float32Array.from({ length: VOCAB }, (_, id) => VOCAB - id);
const head = {
  inverseTemperatures: new Float32Array(1),
  targets: new BigInt64Array(1),
  argmaxIds: new BigInt64Array(1),
  argmax: () => undefined,
  lower: () => undefined,
  select: () => undefined,
  selected: () => ({
    values: logits,
    ids: BigInt64Array.from(logits, (_, id) => BigInt(id)),
    lse: 9,
    lseT: 9,
    target: 0,
  }),
  fullLogits: () => logits.slice(),
} as unknown as HeadLane;

/** One that allows these tokens, and nothing after them. */
function allowing(...ids: number[]): Constraint {
  return {
    mask: Uint8Array.from({ length: VOCAB }, (_, id) => Number(ids.includes(id))),
    binds: true,
    free: false,
    ends: false,
    failed: null,
    accept: () => undefined,
    close: () => undefined,
  };
}

/** What a sequence with min_tokens chooses at first, and how it ends with it. */
function chosen(constraint: Constraint, stopTokens = [6, 7]): [number | undefined, string | null] {
  const sequence = new Sequence(greedy('a', [1, 2], 1, 20, { minTokens: 5, stopTokens }), 0, constraint);
  const [choice] = chooseTokens(head, [sequence]);
  return [choice?.token, sequence.accept(choice?.token ?? NaN, 0)];
}

void t.test('an answer that is complete ends before min_tokens, with an end token', async (t) => {
  t.strictSame(chosen(allowing(7)), [7, 'stop']);
  t.strictSame(chosen(allowing(6, 7)), [6, 'stop']);
});

void t.test('one that may go on goes on', async (t) => {
  t.strictSame(chosen(allowing(5, 6, 7)), [5, null]);
  t.strictSame(chosen(allowing(4, 7), [7]), [4, null]);
});
