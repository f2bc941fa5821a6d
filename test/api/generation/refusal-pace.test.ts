/** The pace of refusals: the first ones at once, the further ones at a fixed rate, by tenant. */
import t from 'tap';
import { RefusalPace } from '../../../src/gateway/api/generation/refusal-pace.js';

void t.test('32 refusals of a tenant leave at once, and few a second of a client without a pause', (t) => {
  const pace = new RefusalPace();
  for (let i = 0; i < 32; i += 1) t.equal(pace.holdMs('a', 1000), 0);
  t.equal(pace.holdMs('a', 1000), 200);
  t.equal(pace.holdMs('a', 1000), 400);
  t.equal(pace.holdMs('b', 1000), 0, 'of another tenant');
  // Eight clients of one tenant, each of which asks again at its answer.
  const next = Array.from({ length: 8 }, () => 2000);
  let count = 0;
  while (Math.min(...next) < 12_000) {
    const now = Math.min(...next);
    next[next.indexOf(now)] = now + pace.holdMs('a', now);
    count += 1;
  }
  t.ok(count >= 75 && count <= 110, `${count} in 10 s`);
  t.equal(pace.holdMs('a', 20_000), 0, 'after a pause');
  t.end();
});

void t.test('a refusal is held for a second at most, and tenants that have paused are forgotten', (t) => {
  const pace = new RefusalPace();
  for (let i = 0; i < 200; i += 1) pace.holdMs('a', 0);
  t.equal(pace.holdMs('a', 0), 1000);
  t.equal(pace.holdMs('a', 1050), 150, 'no debt beyond it');
  for (let i = 0; i < 3000; i += 1) pace.holdMs(`address ${i}`, 5000 + i);
  t.equal(pace.holdMs('a', 8000), 0);
  t.end();
});
