import t from 'tap';
import { StepClock } from '../../../src/engine/execution/step-clock.js';

const NONE = { planning: 0, memory: 0, prefill: 0, decode: 0, head: 0, sampling: 0, messages: 0 };

void t.test('each part has its own time, and together they are the cycle', (t) => {
  let now = 0;
  const clock = new StepClock(() => now);
  now = 100;
  clock.enter('planning');
  now = 103;
  clock.enter('decode');
  now = 110;
  t.equal(
    clock.run('head', () => (now = 115)),
    115,
  );
  now = 116;
  t.same(clock.take(), { ...NONE, planning: 3, decode: 8, head: 5 }, 'the time until the first part belongs to none');
  clock.enter('sampling');
  now = 118;
  clock.enter('messages');
  now = 121;
  clock.enter('planning', 120);
  t.same(clock.take(125), { ...NONE, sampling: 2, messages: 2, planning: 5 }, 'times that the caller has read');
  t.end();
});

void t.test('a failed part ends, and idle time belongs to no part', (t) => {
  let now = 0;
  const clock = new StepClock(() => now);
  clock.enter('prefill');
  t.throws(() =>
    clock.run('head', () => {
      now = 4;
      throw new Error('no memory');
    }),
  );
  now = 5;
  t.same(clock.take(), { ...NONE, head: 4, prefill: 1 });
  now = 6;
  clock.rest();
  now = 1000;
  clock.enter('planning');
  now = 1002;
  t.same(clock.take(), { ...NONE, planning: 2 });
  t.end();
});
