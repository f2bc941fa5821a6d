import t from 'tap';
import { childrenOf, residentMb } from '../../bench/processes.js';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

void t.test('residentMb and childrenOf describe a child', { skip: process.platform !== 'linux' }, async (t) => {
  const code = 'const held = Buffer.alloc(64e6, 1); console.log(process.memoryUsage.rss()); process.stdin.resume()';
  const child = spawn(process.execPath, ['-e', code], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  const own = Number(said) / 1e6;
  const found = residentMb(child.pid ?? 0);
  t.ok(own > 64 && Math.abs(found - own) < 20, `${found} MB, and ${own} MB by its own count`);
  t.ok(childrenOf(process.pid).includes(child.pid ?? 0));
  child.stdin.end();
  await once(child, 'exit');
  t.throws(() => residentMb(child.pid ?? 0), { message: `process ${child.pid} has ended` });
});
