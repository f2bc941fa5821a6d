/** Pages that sequences take, share, roll back and lose, without a device. */
import t from 'tap';
import { at } from '../../../src/util/at.js';
import { BlockPool } from '../../../src/engine/scheduler/kv/block-pool.js';
import { type Slot, unitsOf } from '../../../src/engine/scheduler/kv/units.js';

const PAGE = 4;
const units = unitsOf({
  stages: [0, 1].map((boundary) => ({ entry: { layers: 1, boundary } })),
  exits: [{ entry: { layer: 2, stage: 1, norm: 0 }, block: null }],
});
const tokens = (length: number): number[] => Array.from({ length }, () => 7);

/** A pool, and a live slot of it whose units have these frontiers. */
function world(pages: number) {
  const pool = new BlockPool(9, units, 10 / PAGE, pages, PAGE);
  let index = 0;
  const slot = (...frontiers: number[]): Slot => {
    const made = at(pool.slots, index++);
    made.live = true;
    pool.reserve(made, Math.max(...frontiers));
    frontiers.forEach((end, unit) => {
      made.reach(unit, end);
    });
    return made;
  };
  return { pool, slot };
}

void t.test('a sequence takes whole pages, and gives them back', (t) => {
  const { pool, slot } = world(3);
  const a = slot(5, 5);
  t.equal(a.pages.length, 2);
  t.same(
    [4, 9].map((length) => pool.bytesOf(length)),
    [10, 30],
  );
  t.equal(pool.held([a]), 20);
  t.throws(() => slot(8, 8), /no page is free for 8 positions/);
  pool.drop(a);
  t.equal(pool.held([a]), 0);
  t.same([...a.frontiers], [0, 0]);
  t.equal(new Set(slot(8, 8).pages).size, 2);
  t.end();
});

void t.test('a position has a row of the page that holds it', (t) => {
  const { pool, slot } = world(5);
  slot(4, 4);
  const b = slot(9, 9);
  const rows = Array.from({ length: 12 }, (_, position) => pool.rowOf(b, position));
  t.same(
    rows,
    b.pages.flatMap((block) => [0, 1, 2, 3].map((row) => block * PAGE + row)),
  );
  t.equal(pool.granularity, PAGE);
  t.throws(() => pool.rowOf(b, 12), new RangeError('position 12 has no page'));
  t.end();
});

void t.test('full pages are shared and counted once, each unit as far as it came', (t) => {
  const { pool, slot } = world(8);
  const [a, b] = [slot(11, 6), slot(0, 0)];
  pool.copyPrefix(a, b, 11);
  t.same(b.pages, a.pages.slice(0, 2));
  t.same([...b.frontiers], [8, 6]);
  t.equal(pool.held([a, b]), 30);
  t.equal(
    pool.demand([
      { slot: a, tokens: tokens(11) },
      { slot: b, tokens: tokens(12) },
    ]),
    50,
    'two more for b',
  );
  t.equal(pool.demand([{ slot: null, tokens: tokens(4) }]), 20);
  pool.drop(a);
  t.equal(pool.held([b]), 20, 'the pages of b stay');
  t.end();
});

void t.test('a slot with progress keeps its full pages', (t) => {
  const { pool, slot } = world(9);
  const [a, b] = [slot(12, 12), slot(6, 2)];
  const [own] = b.pages;
  pool.copyPrefix(a, b, 12);
  t.same(b.pages, [own, ...a.pages.slice(1)]);
  t.same([...b.frontiers], [12, 2], 'the second unit lacks positions of its own page');
  const before = [...b.pages];
  const other = slot(7, 7);
  pool.copyPrefix(other, b, 7);
  t.same(b.pages, before, 'nothing is gained');
  const c = slot(6, 6);
  pool.copyPrefix(other, c, 7);
  t.equal(c.pages.length, 2, 'nor is its last page lost');
  t.end();
});

void t.test('a slot rolls back inside its own page, and to the start of a shared one', (t) => {
  const { pool, slot } = world(9);
  const a = slot(11, 11);
  pool.truncate(a, 6);
  t.equal(a.length, 6);
  t.equal(a.pages.length, 2);
  const b = slot(0, 0);
  pool.reserve(a, 11);
  a.reach(0, 11);
  a.reach(1, 11);
  pool.copyPrefix(a, b, 8);
  pool.truncate(a, 6);
  t.same([...a.frontiers], [4, 4]);
  t.equal(b.pages.length, 2);
  pool.reserve(a, 8);
  t.not(a.pages[1], b.pages[1], 'new positions go to a page of its own');
  t.end();
});

void t.test('stored prefixes are evicted for pages', (t) => {
  const { slot } = world(3);
  const stored = slot(8, 8);
  stored.live = false;
  const a = slot(9, 9);
  t.same([...stored.frontiers], [0, 0]);
  t.equal(a.pages.length, 3);
  t.end();
});
