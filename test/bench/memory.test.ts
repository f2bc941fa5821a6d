import t from 'tap';
import { childrenOf, residentMb, slope } from '../../bench/soak/memory.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

void t.test('slope ignores noise and offset', (t) => {
  t.equal(
    slope([
      [1, 5],
      [2, 7],
      [4, 11],
    ]),
    2,
  );
  const noisy = Array.from({ length: 100 }, (_, i) => [i, 400 + 0.5 * i + (i % 2 === 0 ? 3 : -3)] as const);
  t.ok(Math.abs(slope(noisy) - 0.5) < 0.01, String(slope(noisy)));
  t.ok(Number.isNaN(slope([[1, 1]])));
  t.end();
});

void t.test('residentMb and childrenOf describe this process', { skip: process.platform !== 'linux' }, async (t) => {
  const before = residentMb(process.pid);
  const held = Buffer.alloc(64e6, 1);
  const grown = residentMb(process.pid) - before;
  t.ok(grown > 50 && grown < 100, `${held.length} bytes are ${grown} MB`);
  const child = spawn(process.execPath, ['-e', 'process.stdin.resume()'], { stdio: ['pipe', 'ignore', 'inherit'] });
  await once(child, 'spawn');
  t.ok(childrenOf(process.pid).includes(child.pid ?? 0));
  child.stdin.end();
  await once(child, 'exit');
});
