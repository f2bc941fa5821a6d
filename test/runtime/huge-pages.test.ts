import { readFileSync } from 'node:fs';
import t from 'tap';
import { anonymous, useHugePages } from '../../src/runtime/huge-pages.js';

void t.test('finds private memory without a file, the heap among it', async (t) => {
  const maps = [
    '00400000-00500000 r-xp 00000000 08:01 12 /usr/bin/node',
    '01000000-01a00000 rw-p 00000000 00:00 0                                  [heap]',
    '7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ',
    '7f0001000000-7f0001400000 rw-s 00000000 00:05 9 /dev/shm/x',
    '7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]',
  ].join('\n');
  t.strictSame(anonymous(maps), [
    { start: 0x01000000n, end: 0x01a00000n },
    { start: 0x7f0000000000n, end: 0x7f0000400000n },
  ]);
});

void t.test('collapses what is in RAM, changes no byte, and takes no more memory', async (t) => {
  const held = new Uint8Array(64 * 2 ** 20);
  for (let i = 0; i < held.length; i += 4096) held[i] = i % 251;
  const before = process.memoryUsage.rss();
  const bytes = useHugePages();
  t.equal(bytes % 2 ** 21, 0);
  t.ok(process.memoryUsage.rss() < before + 8 * 2 ** 20);
  let wrong = 0;
  for (let i = 0; i < held.length; i += 4096) if (held[i] !== i % 251) wrong++;
  t.equal(wrong, 0);
  const supported = process.platform === 'linux' && readFileSync('/proc/meminfo', 'utf8').includes('Hugepagesize');
  t.comment(`${bytes / 2 ** 20} MiB in huge pages (supported: ${supported})`);
});
