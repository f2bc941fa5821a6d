/** Suites of the embedded model, run with a looped model: what holds for stages holds for loops. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { loopedModel } from './looped-model.js';
import { convert } from '../../src/convert/convert.js';
import { goldenLoops, writeGoldenFolder } from '../convert/golden-model.js';
import { advance, makeExecutor, openSlot } from '../engine/helper.js';

interface Suite {
  readonly file: string;
  /** The tests that random weights can not pass. */
  readonly without?: string;
}

/**
 * Random weights never end a text or a string of a schema, and call no tool. The forms of other clients do not depend on
 * the model.
 */
const SUITES: readonly Suite[] = [
  { file: 'engine/execution/run-prefill' },
  { file: 'engine/worker/core' },
  { file: 'conformance/openai', without: 'a forced tool|auto:' },
];

const model = await loopedModel(t.testdir(), 1);

for (const { file, without } of SUITES)
  void t.test(file, (t) => {
    const script = path.join(packageRoot, 'dist', 'test', `${file}.test.js`);
    const { status, stdout } = spawnSync(process.execPath, [script], {
      cwd: packageRoot,
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      env: {
        ...process.env,
        // tap hands its recorder on.
        NODE_OPTIONS: '',
        SORTIE_TEST_MODEL: model,
        ...(without !== undefined && { TAP_GREP: without, TAP_INVERT: '1' }),
      },
    });
    t.equal(status, 0, (stdout.match(/^ *not ok .*$/gm) ?? []).join('\n'));
    t.match(stdout, /^ok \d+ - .* # time/m, 'tests ran');
    t.end();
  });

// The gate of a looped model: its values are those of the public code.

const gated = goldenLoops('ouro-4');

async function folderOf(t: Test): Promise<string> {
  const dir = t.testdir();
  const source = writeGoldenFolder(path.join(dir, 'hf'), gated);
  const out = path.join(dir, 'out');
  await convert({ source, out, kernels: ['fp32'], compress: false, force: false });
  return out;
}

void t.test('probabilities at every loop equal those of the public code', async (t) => {
  const executor = await makeExecutor(t, { modelDir: await folderOf(t) });
  const { gate } = executor.model;
  for (const { ids, positions } of gated.prompts) {
    const slot = openSlot(executor, ids);
    for (let loop = 0; loop < 4; loop++) {
      const output = advance(executor, slot, loop, ids.length);
      for (const { at, loops } of positions) {
        const state = output?.read(at) ?? null;
        const stop = state === null ? NaN : gate?.stop(state);
        const expected = 1 / (1 + Math.exp(-(loops[loop]?.gate ?? NaN)));
        t.ok(Math.abs((stop ?? NaN) - expected) < 1e-4, `position ${at}, loop ${loop + 1}: ${stop}, ${expected}`);
      }
    }
    executor.table.drop(slot);
  }
});
