/** The parts of bench:quality: documents as the tuning builds them, divergences, a folder against itself. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { compare } from '../../bench/quality/compare.js';
import { documentOf, readRows } from '../../bench/quality/documents.js';
import { openExecutor } from '../../bench/quality/exit-logits.js';
import { loadServedModel } from '../../src/gateway/api/load-served-model.js';
import { convert } from '../../src/convert/convert.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { MODEL } from '../engine/helper.js';

const tiny = fileURLToPath(new URL('../../../test/golden/tiny', import.meta.url));
const TEXTS = [Array.from({ length: 40 }, (_, i) => 2 + ((i * 37) % 200)), [5, 6, 7, 8]];

async function tinyFolder(dir: string, kernel: KernelName): Promise<string> {
  const out = join(dir, kernel);
  await convert({ source: tiny, out, exits: [2, 5], kernels: [kernel], compress: false, force: false });
  return out;
}

void t.test('rows become chats with the same tokens as in the training package', (t) => {
  const { chat, tokenizer } = loadServedModel(MODEL);
  if (chat === null) throw new Error('no template');
  const file = join(t.testdir(), 'data.jsonl');
  const rows = [
    { q: 'What is 2 + 2?', a: "It's 4.\n" },
    { q: '   ', a: 'no question' },
    { q: 'No answer', a: 'x' },
    { q: '  Name a colour ', a: 'Blue é 12', done: false },
  ];
  writeFileSync(file, `${rows.map((row) => JSON.stringify(row)).join('\n')}\n\n`);
  const documents = readRows(file).map((row) => documentOf(row, chat, tokenizer, 256));
  const system = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2,
  ];
  // Expected tokens from sorted_tuning.data.document.
  const first = [
    198, 1, 4093, 198, 1780, 314, 216, 34, 1232, 216, 34, 47, 2, 198, 1, 520, 9531, 198, 1589, 506, 216, 36, 30, 198, 2,
    198,
  ];
  const second = [198, 1, 4093, 3805, 10181, 253, 7302, 216, 2, 198, 1, 520, 9531, 198, 23390, 26411, 216, 33, 34];
  t.strictSame(documents, [system.concat(first), system.concat(second)]);
  const found = readRows(file).map((row) => documentOf(row, chat, tokenizer, 10));
  t.strictSame(found, [system.slice(0, 10), system.slice(0, 10)]);
  writeFileSync(file, '{"q": "a", "a": "bc"}\n{"q": 1}\n');
  t.throws(() => readRows(file), /data\.jsonl:2 must be an object with texts "q" and "a"/);
  t.end();
});

void t.test('a folder agrees with itself; an early exit does not agree with full depth', async (t) => {
  const dir = t.testdir();
  const folder = await tinyFolder(dir, 'fp32');
  const [model, same] = [await openExecutor(folder, 48, 2), await openExecutor(folder, 48, 2)];
  const seen: number[] = [];
  const [early, full] = compare(model, same, TEXTS, (done) => seen.push(done));
  t.strictSame(seen, [1, 2]);
  t.strictSame([early?.layer, full?.layer], [2, 5]);
  t.ok(Math.abs(full?.kl ?? NaN) < 1e-5);
  t.equal(full?.agreement, 1);
  t.ok((early?.kl ?? 0) > 1e-3, 'an early exit differs from full depth');

  const rounded = await openExecutor(await tinyFolder(dir, 'w8a8'), 48, 2);
  const cost = compare(rounded, same, TEXTS, () => undefined).at(-1)?.kl;
  t.ok((cost ?? 0) > 0 && (cost ?? 1) < 0.05, `rounding costs ${cost}`);
  for (const executor of [model, same, rounded]) executor.dispose();
});
