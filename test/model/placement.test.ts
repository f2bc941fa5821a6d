/** Stages are divided among GPUs by their memory, and a model that does not fit is an error of one sentence. */
import t from 'tap';
import { divideStages } from '../../src/model/placement.js';

const GIB = 2 ** 30;
const needs = (...gibibytes: number[]) => gibibytes.map((each, i) => ({ name: `s${i}`, bytes: each * GIB }));
const rooms = (...gibibytes: (number | null)[]) =>
  gibibytes.map((each, i) => ({ name: `cuda:${i}`, bytes: each === null ? null : each * GIB }));

void t.test('the fullest card is the least full', (t) => {
  t.same(divideStages(needs(10, 10, 10, 10), rooms(40, 40)), [0, 0, 1, 1]);
  t.same(divideStages(needs(10, 10, 10, 10), rooms(80, 24)), [0, 0, 0, 1]);
  t.same(divideStages(needs(10, 10, 10, 10), rooms(24, 80)), [0, 1, 1, 1]);
  t.same(divideStages(needs(1, 9, 9, 1, 1), rooms(20, 20, 20)), [0, 0, 1, 2, 2]);
  t.same(divideStages(needs(5, 5, 20), rooms(null, null)), [0, 0, 1], 'cards of unknown memory are equal');
  const large = divideStages(
    needs(...Array.from({ length: 40 }, () => 1)),
    rooms(...Array.from({ length: 8 }, () => 6)),
  );
  t.same(
    [0, 1, 7].map((card) => large.filter((each) => each === card).length),
    [5, 5, 5],
  );
  t.end();
});

void t.test('one card that is named twice has its memory once', (t) => {
  const twice = [0, 0].map(() => ({ name: 'cuda:0', bytes: 10 * GIB }));
  t.same(divideStages(needs(4, 4), twice), [0, 1]);
  t.throws(() => divideStages(needs(6, 4), twice), { message: /stage s0 takes 6.00 GiB/ });
  t.end();
});

void t.test('a model that does not fit', (t) => {
  const message = (stages: number[], cards: number[]): string => {
    try {
      divideStages(needs(...stages), rooms(...cards));
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
    return 'it fits';
  };
  t.equal(
    message([10, 30], [20, 20]),
    '--device cuda:0,cuda:1: stage s1 takes 30.00 GiB with its KV cache, and no card has more than 20.00 GiB free; convert with more exits, or lower --kv-memory',
  );
  t.equal(
    message([15, 15, 15], [20, 20]),
    '--device cuda:0,cuda:1: the stages take 45.00 GiB with their KV cache, and do not fit in order of depth on 2 cards with 40.00 GiB free; name more cards, or lower --kv-memory',
  );
  t.equal(
    message([1], [20, 20]),
    '--device cuda:0,cuda:1: the model has 1 stage(s) for 2 cards; name fewer cards, or convert with more exits',
  );
  t.end();
});
