/** Slots and memory in the forecast: given to the waiting as they come free, in order, past those that don't fit. */
import t from 'tap';
import { type Load, forecast } from '../../src/router/forecast.js';

/** Decodes already, and holds some positions. */
const running = (steps: number): Load => ({
  ...{ exit: 0, prefillMs: 0, chunks: 0, steps },
  ...{ holdsSlot: true, held: 30, positions: 10 },
});
/** Waits, with a prompt of 2 ms. */
const asking = (positions: number): Load => ({
  ...{ exit: 0, prefillMs: 2, chunks: 1, steps: 5 },
  ...{ holdsSlot: false, held: 0, positions },
});
/** Every step takes a millisecond, whoever is in it. */
const firsts = (loads: readonly Load[], slots: number, positions: number): number[] => {
  const queue = loads.flatMap(({ holdsSlot }, i) => (holdsSlot ? [] : [i]));
  return [...forecast(loads, queue, { slots, positions }, 0, () => 1).first];
};

void t.test('who waits gets the memory of who ends: all that it held, and what was set aside for it', async (t) => {
  t.equal(firsts([running(10), running(100), asking(40)], 1, 60)[2], 3, 'there is room now');
  t.equal(firsts([running(10), running(100), asking(40)], 1, 20)[2], 13, 'as soon as the first one ends');
  t.equal(firsts([running(10), running(100), asking(41)], 1, 20)[2], 103);
});

void t.test('who waits gets the slot of who ends', async (t) => {
  t.equal(firsts([running(10), running(100), asking(40)], 0, 1000)[2], 13);
});

void t.test('one that does not fit yet is passed over by one that does', async (t) => {
  const [, large = 0, small = 0] = firsts([running(10), asking(500), asking(5)], 2, 30);
  t.equal(small, 3);
  t.ok(large > small, `${large}`);
});

void t.test('one that is larger than all there is goes when it is alone', async (t) => {
  t.equal(firsts([asking(500)], 1, 100)[0], 3);
});
