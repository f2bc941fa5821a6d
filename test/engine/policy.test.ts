import t from 'tap';
import { kernelChoice } from '../../src/engine/execution/kernels.js';
import { randomStream } from '../../src/engine/draws.js';

void t.test('kernel: the cheapest for these rows', async (t) => {
  const cost = (kernel: string, one: number, many: number) => {
    const points = (first: number, last: number) =>
      [first, last].map((rows) => ({ rows, context: 0, ms: rows === first ? one : many }));
    return { unit: 's', kernel, decode: points(1, 16), prefill: points(16, 128) };
  };
  const choose = kernelChoice(['s'], ['int4', 'w8a8'], { units: [cost('int4', 2, 16), cost('w8a8', 4, 12)] });
  t.equal(choose(0, 'decode', 1, 100), 'int4');
  t.equal(choose(0, 'decode', 16, 100), 'w8a8');
  t.equal(choose(0, 'prefill', 128, 0), 'w8a8');
});

void t.test('random: same seed, same stream, uniform', async (t) => {
  const [a, b, c] = [randomStream(1), randomStream(1), randomStream(2)];
  const draws = Array.from({ length: 10_000 }, () => a());
  t.strictSame(
    draws.slice(0, 5),
    Array.from({ length: 5 }, () => b()),
  );
  t.not(draws[0], c());
  t.not(draws[0], randomStream(1 + 2 ** 32)(), 'seeds have more than 32 bits');
  t.not(randomStream(null)(), randomStream(null)(), 'without a seed, a new stream each time');
  const mean = draws.reduce((sum, draw) => sum + draw, 0) / draws.length;
  t.ok(Math.abs(mean - 0.5) < 0.015, `mean ${mean}`);
});
