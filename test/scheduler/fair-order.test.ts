import t from 'tap';
import fc from 'fast-check';
import { FairOrder, landingNets, yielded } from '../../src/engine/scheduler/fair-order.js';
import { SentenceState } from '../../src/engine/scheduler/output-length.js';

const item = (tenant: string, service: number, id: number, isPromised = false) => ({
  ...{ tenant, service, id, isPromised, isPromisedAt: () => isPromised },
});
type Item = ReturnType<typeof item>;

void t.test('two tenants with waiting sequences get equal service, up to one sequence of each', (t) => {
  const services = fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 30, maxLength: 30 });
  fc.assert(
    fc.property(services, services, fc.integer({ min: 1, max: 5 }), (first, second, slots) => {
      const fair = new FairOrder();
      let waiting = [...first.map((s, i) => item('a', s, i)), ...second.map((s, i) => item('b', s, 100 + i))];
      const got = { a: 0, b: 0 };
      const bound = Math.max(...first) + Math.max(...second);
      while (waiting.some(({ tenant }) => tenant === 'a') && waiting.some(({ tenant }) => tenant === 'b')) {
        if (Math.abs(got.a - got.b) > bound) return false;
        const ordered = fair.order(waiting, 0);
        for (const each of ordered.slice(0, slots)) {
          fair.started(each);
          got[each.tenant as 'a' | 'b'] += each.service;
        }
        waiting = ordered.slice(slots);
      }
      return true;
    }),
  );
  t.end();
});

void t.test(
  'the order holds each sequence once, and keeps the order of a tenant, of promises and of a lead before them',
  (t) => {
    const items = fc.array(
      fc.record({ tenant: fc.constantFrom('a', 'b', 'c'), service: fc.nat(50), isPromised: fc.boolean() }),
    );
    fc.assert(
      fc.property(items, (some) => {
        const waiting = some.map(({ tenant, service, isPromised }, id) => item(tenant, service, id, isPromised));
        const ordered = new FairOrder().order(waiting, 0);
        const promised = waiting.filter(({ isPromised }) => isPromised);
        const lead = waiting[0]?.isPromised === false ? 1 : 0;
        t.same(ordered.slice(lead, lead + promised.length), promised);
        for (const tenant of ['a', 'b', 'c']) {
          const own = (list: readonly Item[]) => list.filter((each) => each.tenant === tenant && !each.isPromised);
          t.same(own(ordered), own(waiting));
        }
        return ordered.length === waiting.length;
      }),
      { numRuns: 50 },
    );
    t.end();
  },
);

void t.test('a tenant that was idle goes first, and gains no credit', (t) => {
  const fair = new FairOrder();
  for (let i = 0; i < 64; i++) fair.started(item('flood', 100, i));
  const flood = Array.from({ length: 4 }, (_, i) => item('flood', 100, i));
  const late = Array.from({ length: 4 }, (_, i) => item('late', 100, 10 + i));
  const names = fair.order([...flood, ...late], 0).map(({ tenant }) => tenant);
  t.same(names, ['late', 'flood', 'late', 'flood', 'late', 'flood', 'late', 'flood']);
  for (const { tenant } of flood) fair.left({ tenant, unused: 90 });
  t.equal(fair.order([...late, ...flood], 0)[1]?.tenant, 'flood', 'sequences that end early are charged their service');
  t.end();
});

void t.test('a sequence yields to a tenant below its share, and to a promise', (t) => {
  const row = (tenant: string, arrivedAt: number, isPromised = false) => ({
    ...{ tenant, arrivedAt, isPromisedAt: () => isPromised },
  });
  const yields = (tenants: string, next: string, isPromised = false, protectedRows = 0, slots = 4) => {
    const running = Array.from(tenants, (tenant, id) => row(tenant.toLowerCase(), id, tenant !== tenant.toLowerCase()));
    const waiting = [row(next, 99, isPromised)];
    return yielded({ running, waiting }, { slots, protectedRows, now: 0 })?.victim.arrivedAt ?? null;
  };
  t.equal(yields('aaaa', 'b'), 3, 'the newest');
  t.equal(yields('aaab', 'b'), 2);
  t.equal(yields('aabb', 'b'), null, 'both have their share');
  t.equal(yields('aabb', 'a'), null, 'no two take turns');
  t.equal(yields('aaabb', 'b'), null, 'one with its share is owed nothing');
  t.equal(yields('aaaa', 'a'), null);
  t.equal(yields('aaab', 'b', true), 2, 'the tenant with the most slots');
  t.equal(yields('aa', 'a', true), 1, 'its own sequences as well');
  t.equal(yields('aa', 'b', true, 1), 1);
  t.equal(yields('aa', 'b', true, 2), null, 'the oldest keep their share');
  t.equal(yields('AAA', 'b', true), null, 'a promise yields to none');
  t.equal(yields('AAA', 'b'), null);
  t.equal(yields('ab', 'c', false, 0, 2), null, 'no tenant has more than its share');
  t.end();
});

void t.test('nets with a sentence end where others wait for their slots', (t) => {
  const row = (isNet: boolean, ...ends: readonly boolean[]) => {
    const sentence = new SentenceState();
    for (const mayEnd of ends) sentence.read(mayEnd);
    return { isNet, sentence };
  };
  const begun = row(true, false, false);
  const longAgo = row(true, true, false, false);
  const atEnd = row(true, false, true);
  const direct = row(false, true);
  const running = [begun, longAgo, atEnd, direct];
  const nets = (count: number) => Array.from({ length: count }, () => row(true));
  t.same(landingNets({ running, waiting: [direct] }, 4), []);
  t.same(landingNets({ running, waiting: nets(2) }, 6), [], 'there are slots');
  t.same(landingNets({ running, waiting: nets(2) }, 5), [atEnd], 'the one that loses no text');
  t.same(landingNets({ running, waiting: nets(9) }, 4), [atEnd, longAgo]);
  t.end();
});
