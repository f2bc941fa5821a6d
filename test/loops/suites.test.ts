/** Suites of the embedded model, run with a looped model: what holds for stages holds for loops. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { loopedModel } from './looped-model.js';

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
