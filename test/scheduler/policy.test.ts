/** Every part of the operator's policy changes what is planned. */
import t from 'tap';
import { SERVE_OPTIONS } from '../../src/cli/options/config.js';
import { chunkSizes, defaultPolicy } from '../../src/engine/scheduler/policy.js';
import { NOW, admitted, asking, natural, outcomeOf, plannerOf, serve, simulated, total } from './fixtures.js';

const burst = (count: number, everyMs: number) =>
  Array.from({ length: count }, (_, i) => simulated(`r${i}`, i * everyMs, null));

void t.test('noBudgetShare: a larger share brings requests without a budget on faster among tight ones', async (t) => {
  const tight = burst(200, 30).map((each) => ({ ...each, budget: total(700, 'reject') }));
  const all = [...tight, simulated('free', 1500, null)].sort((a, b) => a.arrivedAt - b.arrivedAt);
  const took = (noBudgetShare: number): number =>
    outcomeOf(serve(all, { policy: { noBudgetShare } }).outcomes, 'free').endedAt;
  t.ok(took(0.5) < took(0.05), `${took(0.5)} and ${took(0.05)}`);
});

void t.test('requestOverheadMs: what a request takes outside the engine is not there for it', async (t) => {
  const at = (requestOverheadMs: number) => admitted(plannerOf({ requestOverheadMs }), asking('a', total(400)));
  t.ok(at(0).exit > at(150).exit, `${at(0).exit} and ${at(150).exit}`);
});

void t.test('margin: a plan that expects slower steps begins shallower', async (t) => {
  const exitAt = (margin: number): number =>
    admitted(plannerOf({ margin }), asking('a', total(220, 'land'), natural)).exit;
  t.ok(exitAt(0) > exitAt(1), `${exitAt(0)} and ${exitAt(1)}`);
});

void t.test('landingOpens: a later window has less pressure', async (t) => {
  const opensAt = (landingOpens: number): number =>
    plannerOf({ landingOpens }).landing(asking('a', total(1012, 'land'), natural))?.opensAt ?? NaN;
  t.equal(opensAt(0.5), NOW + 500);
  t.equal(opensAt(0.8), NOW + 800);
});

void t.test('covered: an answer that can not land is guaranteed for as long as it may get', async (t) => {
  const classOf = (covered: number, totalMs: number): string =>
    admitted(plannerOf({ covered }), asking('a', total(totalMs), natural)).serviceClass;
  const first = (covered: number): number => {
    let ms = 50;
    while (classOf(covered, ms) !== 'guaranteed') ms *= 1.1;
    return ms;
  };
  t.ok(first(0.5) < 0.5 * first(0.999), `${first(0.5)} and ${first(0.999)} ms`);
});

void t.test('chunk sizes rise up to the largest, which is one of them', async (t) => {
  t.same(chunkSizes(128), [16, 32, 64, 128]);
  t.same(chunkSizes(100), [16, 32, 64, 100]);
  t.same(chunkSizes(8), [8]);
});

void t.test('the command line and the scheduler assume the same', async (t) => {
  t.same(defaultPolicy.chunks, chunkSizes(SERVE_OPTIONS.prefillChunk.default));
});
