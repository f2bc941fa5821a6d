/** Suites of the embedded model, run with a looped model: what holds for stages holds for loops. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/config.js';
import { loopedModel } from './looped-model.js';

/**
 * Each suite with the tests that another model cannot pass: predictions of a step of microseconds, and calls of tools by
 * random weights.
 */
const SUITES: readonly (readonly [name: string, without: string | null])[] = [
  ['engine/execution/run-prefill', null],
  ['engine/worker/core', 'admission counts on a stored prefix'],
  ['engine/audit/auditor', null],
  ['engine/audit/audit-properties', null],
  ['conformance/openai-engine', 'a forced tool|auto:'],
  ['chaos/fuzz', null],
];

const model = await loopedModel(t.testdir(), 1);

for (const [name, without] of SUITES)
  void t.test(name, (t) => {
    const { status, stdout } = spawnSync(
      process.execPath,
      [path.join(packageRoot, 'dist', 'test', `${name}.test.js`)],
      {
        cwd: packageRoot,
        encoding: 'utf8',
        maxBuffer: 2 ** 26,
        env: {
          ...process.env,
          // tap hands its recorder on.
          NODE_OPTIONS: '',
          SORTIE_TEST_MODEL: model,
          SORTIE_TEST_FUZZ: model,
          ...(without !== null && { TAP_GREP: without, TAP_INVERT: '1' }),
        },
      },
    );
    t.equal(status, 0, (stdout.match(/^ *not ok .*$/gm) ?? []).join('\n'));
    t.match(stdout, /^ok \d+ - /m, 'tests ran');
    t.end();
  });
