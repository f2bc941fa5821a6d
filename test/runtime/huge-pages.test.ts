import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import t from 'tap';
import { convert } from '../../src/convert/convert.js';
import { anonymous, useHugePages, PAGE, residentPages } from '../../src/engine/runtime/libc.js';
import { goldenModel, writeGoldenFolder } from '../convert/golden-model.js';
import { advance, decodeRows, makeExecutor, openSlot, slotParts } from '../engine/helper.js';

void t.test('anonymous finds private memory without a file, including the heap', async (t) => {
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

void t.test('useHugePages collapses resident memory, changes no byte, and loads no page', async (t) => {
  const written = 32 * 2 ** 20 + 2 ** 20;
  const memory = koffi.alloc('uint8_t', 64 * 2 ** 20) as unknown;
  t.teardown(() => {
    koffi.free(memory);
  });
  const held = new Uint8Array(koffi.view(memory, 64 * 2 ** 20));
  for (let i = 0; i < written; i += PAGE) held[i] = i % 251;
  // Counts this memory only: the whole process varies by megabytes during garbage collection.
  const start = (koffi.address(memory) / BigInt(PAGE) + 1n) * BigInt(PAGE);
  const pages = () => residentPages(start, held.length - 2 * PAGE);
  const before = pages();
  t.ok(before >= written / PAGE - 1);
  const bytes = useHugePages();
  t.equal(bytes % 2 ** 21, 0);
  t.equal(pages(), before);
  let wrong = 0;
  for (let i = 0; i < held.length; i += PAGE) if (held[i] !== (i < written ? i % 251 : 0)) wrong++;
  t.equal(wrong, 0);
  const supported = process.platform === 'linux' && readFileSync('/proc/meminfo', 'utf8').includes('Hugepagesize');
  t.comment(`${bytes / 2 ** 20} MiB in huge pages (supported: ${supported})`);
});

void t.test(
  'rows of a mapped table leave the process, and are read again',
  { skip: process.platform !== 'linux' },
  async (t) => {
    const model = goldenModel('gemma4');
    const [{ ids } = { ids: [] }] = model.prompts;
    const dir = t.testdir();
    const modelDir = join(dir, 'out');
    const source = writeGoldenFolder(join(dir, 'hf'), model);
    await convert({ source, out: modelDir, kernels: ['w8a8'], compress: false, force: false });
    const executor = await makeExecutor(t, { modelDir });
    const resident = (): number => {
      const areas = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      const mapped = areas.filter((area) => area.split('\n')[0]?.endsWith(`${modelDir}/weights-000.bin`));
      return mapped.reduce((sum, area) => sum + Number(/^Rss: +(\d+)/m.exec(area)?.[1]), 0);
    };
    const logits = (): Float32Array => {
      const slot = openSlot(executor, ids);
      advance(executor, slot, 0, ids.length - 1);
      decodeRows(executor, [{ slot, exit: executor.exit(0) }]);
      executor.table.drop(slot);
      return executor.head.fullLogits(0).slice();
    };
    const before = logits();
    t.ok(resident() > 0);
    slotParts(executor).model.rows.read(256);
    t.equal(resident(), 0);
    t.strictSame(logits(), before);
  },
);
