/** Which prompt goes on beside those who decode, and for whom it waits. */
import t from 'tap';
import { type Budget, type SequenceState, chooseChunk } from '../../src/router/planner.js';
import { decoding, nothing, NOW, planOf } from './decoding.js';
import { layers } from './sample.js';

function prompt(arrivedAt: number, budget: Partial<Budget> | null): SequenceState {
  return {
    ...{ ...decoding('prompt', {}), arrivedAt, generated: 0, frontier: layers.map(() => 0) },
    ...{ budget: budget === null ? null : { ...nothing, ...budget } },
    ...{ firstTokenAt: null, lastTokenAt: null, tokensAtExit: 0 },
  };
}

/** Positions of the prompt that go on; 0 where it waits. */
function positions(...live: SequenceState[]): number {
  const { plan, paused } = planOf(live);
  return chooseChunk(plan, new Set(paused))?.positions ?? 0;
}

void t.test('a prompt without a budget waits while a deadline needs the time, but not for ever', async (t) => {
  const tight = (arrivedAt: number): SequenceState[] =>
    Array.from({ length: 4 }, (_, i) => ({ ...decoding(`tight${i}`, { totalMs: 1220 - arrivedAt }), arrivedAt }));
  t.equal(positions(...tight(0), prompt(NOW, null)), 0, 'it just came');
  t.ok(positions(...tight(600), prompt(100, null)) > 0, 'its share of the machine is due');
  t.equal(positions(...tight(0), prompt(100, null)), 0, 'nobody counted on it when those were promised');
});

void t.test('a chunk is as small as the pace of those who decode asks for, while it can be kept', async (t) => {
  const beside = (tpotMs: number): number => positions(decoding('paced', { tpotMs }), prompt(NOW, { totalMs: 5000 }));
  t.equal(beside(30), 128);
  const small = beside(8);
  t.ok(small > 0 && small < 128, `${small}`);
  t.equal(beside(6), 128, 'who misses his pace anyway holds up nobody');
});
