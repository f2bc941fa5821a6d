/** Pages that sequences take, share, roll back and lose, without a device. */
import t from 'tap';
import { PagePlaces } from '../../../src/engine/slots/page-places.js';
import { Slot } from '../../../src/engine/slot.js';
import type { ExitUnits } from '../../../src/engine/units.js';

const PAGE = 4;
const exit: ExitUnits = { layer: 2, stage: 1, block: null, norm: 0, dry: null, needed: [0, 1] };

interface World {
  readonly places: PagePlaces;
  /** A slot whose units have these frontiers. */
  readonly slot: (...frontiers: number[]) => Slot;
  readonly evicted: Slot[];
}

function world(pages: number, evictable: (places: PagePlaces) => Slot | null = () => null): World {
  const evicted: Slot[] = [];
  const places: PagePlaces = new PagePlaces({ pages, page: PAGE, pageBytes: 10 }, () => {
    const victim = evictable(places);
    if (victim === null || evicted.includes(victim)) return false;
    evicted.push(victim);
    places.release(victim);
    return true;
  });
  let index = 0;
  const slot = (...frontiers: number[]): Slot => {
    const made = new Slot(index++, 2);
    places.reserve(made, Math.max(...frontiers));
    frontiers.forEach((end, unit) => {
      made.reach(unit, end);
    });
    return made;
  };
  return { places, slot, evicted };
}

void t.test('a sequence takes whole pages, and gives them back', (t) => {
  const { places, slot } = world(3);
  const a = slot(5, 5);
  t.equal(places.pagesOf(a).length, 2);
  t.equal(places.bytes(a, 4), 10);
  t.equal(places.bytes(a, 100), 20, 'no more than it has');
  t.equal(places.bytesAt(exit, 9), 30);
  t.throws(() => slot(8, 8), /no page is free for 8 positions/);
  places.release(a);
  t.equal(places.held([a]), 0);
  t.same([...a.frontiers], [0, 0]);
  t.equal(new Set(places.pagesOf(slot(8, 8))).size, 2);
  t.end();
});

void t.test('full pages are shared and counted once, each unit as far as it came', (t) => {
  const { places, slot } = world(8);
  const [a, b] = [slot(11, 6), slot(0, 0)];
  places.share(a, b, 11);
  t.same(places.pagesOf(b), places.pagesOf(a).slice(0, 2));
  t.same([...b.frontiers], [8, 6]);
  t.equal(places.held([a, b]), 30);
  t.equal(
    places.demand([
      { slot: a, exit, length: 12 },
      { slot: b, exit, length: 13 },
    ]),
    50,
    'two more for b',
  );
  t.equal(places.demand([{ slot: null, exit, length: 5 }]), 20);
  places.release(a);
  t.equal(places.held([b]), 20, 'the pages of b stay');
  t.end();
});

void t.test('a slot with progress keeps its full pages', (t) => {
  const { places, slot } = world(9);
  const [a, b] = [slot(12, 12), slot(6, 2)];
  const [own] = places.pagesOf(b);
  places.share(a, b, 12);
  t.same(places.pagesOf(b), [own, ...places.pagesOf(a).slice(1)]);
  t.same([...b.frontiers], [12, 2], 'the second unit lacks positions of its own page');
  const before = [...places.pagesOf(b)];
  places.share(slot(7, 7), b, 7);
  t.same(places.pagesOf(b), before, 'nothing is gained');
  t.end();
});

void t.test('a slot rolls back inside its own page, and to the start of a shared one', (t) => {
  const { places, slot } = world(9);
  const a = slot(11, 11);
  places.rewind(a, 6);
  t.equal(a.length, 6);
  t.equal(places.pagesOf(a).length, 2);
  const b = slot(0, 0);
  places.reserve(a, 11);
  a.reach(0, 11);
  a.reach(1, 11);
  places.share(a, b, 8);
  places.rewind(a, 6);
  t.same([...a.frontiers], [4, 4]);
  t.equal(places.pagesOf(b).length, 2);
  places.reserve(a, 8);
  t.not(places.pagesOf(a)[1], places.pagesOf(b)[1], 'new positions go to a page of its own');
  t.end();
});

void t.test('stored prefixes are evicted for pages', (t) => {
  let stored: Slot | null = null;
  const { places, slot, evicted } = world(3, () => stored);
  stored = slot(8, 8);
  const a = slot(9, 9);
  t.same(evicted, [stored]);
  t.equal(places.pagesOf(a).length, 3);
  t.end();
});
