import t from 'tap';
import { RateMeter } from '../../bench/engine/scenario.js';

void t.test('decode counts from the first token of every sequence to the end of the first sequence', async (t) => {
  let now = 1000;
  const meter = new RateMeter({ parallel: 2, promptTokens: 50, answerTokens: 4 }, () => now);
  const token = (at: number, isFirst: boolean): void => {
    now = at;
    meter.token(isFirst);
  };
  token(1100, true);
  token(1150, false); // the other prompt still waits
  token(1200, true);
  token(1210, false);
  token(1220, false);
  token(1230, false);
  now = 1250;
  meter.ended();
  token(1300, false); // alone
  now = 1300;
  meter.ended();
  t.strictSame(meter.rate(), { prefill: (1000 * 100) / 200, decode: (1000 * 3) / 50 });
});

void t.test('the rate is NaN without tokens', async (t) => {
  const meter = new RateMeter({ parallel: 1, promptTokens: 5, answerTokens: 2 });
  t.ok(Number.isNaN(meter.rate().prefill));
  t.ok(Number.isNaN(meter.rate().decode));
});
