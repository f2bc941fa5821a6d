/** End pressure by time and place. */
import t from 'tap';
import type { MayEnd } from '../../../src/gateway/text/sentences/sentence-scanner.js';
import { endPressure, LANDING, thoughtsEnd } from '../../../src/engine/landing/pressure.js';
import type { LandingWindow } from '../../../src/engine/scheduler/types.js';

const landing = { opensAt: 1000, endsAt: 2000, sentenceTokens: 24 };
const pressure = (decodesAt: number, mayEnd: MayEnd = 'free', tokenMs = 10, window: LandingWindow = landing): number =>
  endPressure(window, { decodesAt, tokenMs }, mayEnd);
/** With 24 tokens to the next end, the last one is 25 steps before the deadline. */
const LAST = 1750;

void t.test('pressure rises through the window, and the last end is forced', async (t) => {
  const at = (now: number): number => pressure(now);
  t.strictSame([0, 999, 1000].map(at), [0, 0, 0]);
  const rising = [1001, 1200, 1500, LAST - 1].map(at);
  t.ok(
    rising.every((amount, i) => amount > (rising[i - 1] ?? 0) && amount < LANDING.most),
    rising.join(' '),
  );
  t.strictSame([LAST, 1999, 9999].map(at), [LANDING.forced, LANDING.forced, LANDING.forced]);
  t.equal(pressure(1749, 'line_break'), 0, 'a list ends by force only');
  t.equal(pressure(LAST, 'line_break'), LANDING.forced);
  t.equal(pressure(9999, 'no'), 0);
});

void t.test('a budget below a sentence forces the first end in the window', async (t) => {
  t.equal(pressure(1000, 'free', 100), 0);
  t.equal(pressure(1001, 'free', 100), LANDING.forced);
  t.equal(pressure(9, 'free', 1, { opensAt: 5, endsAt: 5, sentenceTokens: 24 }), LANDING.forced);
});

void t.test('thoughts close half a window before the landing opens', async (t) => {
  const closes = (decodesAt: number): boolean => thoughtsEnd(landing, { decodesAt, tokenMs: 10 });
  t.notOk(closes(489));
  t.ok(closes(490));
});
