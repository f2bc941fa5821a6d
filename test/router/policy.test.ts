/** Every part of the operator's policy changes what is planned. */
import t from 'tap';
import { SERVE_OPTIONS } from '../../src/config.js';
import { chunkSizes, defaultPolicy } from '../../src/router/index.js';
import type { Outcome } from '../../src/simulate/engine.js';
import { NOW, admitted, asking, outcomeOf, routerOf, serve, simulated, total } from './fixtures.js';

const burst = (count: number, everyMs: number) =>
  Array.from({ length: count }, (_, i) => simulated(`r${i}`, i * everyMs, null));
const depths = (outcomes: readonly Outcome[]): number[] => outcomes.flatMap(({ path }) => path.map(({ exit }) => exit));

void t.test('shedDepth: off keeps full depth without budgets, on bends under load only', async (t) => {
  const shed = (count: number, everyMs: number, shedDepth: boolean): number[] => {
    const { outcomes } = serve(burst(count, everyMs), { policy: { shedDepth } });
    t.equal(outcomes.length, count);
    return depths(outcomes);
  };
  t.ok(shed(60, 20, false).every((layer) => layer === 30));
  t.ok(shed(60, 20, true).some((layer) => layer < 30));
  t.ok(
    shed(3, 2000, true).every((layer) => layer === 30),
    'idle: full depth',
  );
});

void t.test('noBudgetShare: a larger share brings requests without a budget on faster among tight ones', async (t) => {
  const tight = burst(200, 30).map((each) => ({ ...each, budget: total(700, 'reject') }));
  const all = [...tight, simulated('free', 500, null)].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const took = (noBudgetShare: number): number =>
    outcomeOf(serve(all, { policy: { noBudgetShare } }).outcomes, 'free').endedAt;
  t.ok(took(0.5) < took(0.05), `${took(0.5)} and ${took(0.05)}`);
});

void t.test('arrivalHeadroom: arrivals with tighter budgets take depth', async (t) => {
  const exitAt = (arrivalHeadroom: number): number => {
    const router = routerOf({ arrivalHeadroom });
    for (let at = NOW - 3000; at < NOW; at += 60) {
      router.enqueued(asking(`past${at}`, total(200), { arrivedAt: at, maxTokens: 10 }), at);
    }
    return admitted(router, asking('new', total(1000))).exit;
  };
  t.ok(exitAt(0) > exitAt(3), `${exitAt(0)} and ${exitAt(3)}`);
});

void t.test('requestOverheadMs: what a request takes outside the engine is not there for it', async (t) => {
  const at = (requestOverheadMs: number) => admitted(routerOf({ requestOverheadMs }), asking('a', total(400)));
  t.ok(at(0).exit > at(150).exit, `${at(0).exit} and ${at(150).exit}`);
  t.ok(at(150).forecast.totalMs > 0);
});

void t.test('attainmentWeight: quality alone begins deeper than attainment alone', async (t) => {
  const depth = (attainmentWeight: number): number => {
    const router = routerOf({ attainmentWeight });
    let sum = 0;
    for (let ms = 400; ms < 3000; ms *= 1.2) {
      sum += admitted(router, asking('a', total(ms), { isExactLength: false, maxTokens: 1024 })).exit;
    }
    return sum;
  };
  t.ok(depth(0) > depth(1), `${depth(0)} and ${depth(1)}`);
});

void t.test('chunk sizes rise up to the largest, which is one of them', async (t) => {
  t.same(chunkSizes(128), [16, 32, 64, 128]);
  t.same(chunkSizes(100), [16, 32, 64, 100]);
  t.same(chunkSizes(8), [8]);
});

void t.test('the command line and the router assume the same', async (t) => {
  const { noBudgetShare, maxStall, prefillChunk } = SERVE_OPTIONS;
  t.equal(noBudgetShare.default, defaultPolicy.noBudgetShare);
  t.equal(maxStall.default, defaultPolicy.maxStallMs);
  t.same(defaultPolicy.chunks, chunkSizes(prefillChunk.default));
});
