/** Suites of the embedded model, run with a looped model: what holds for stages holds for loops. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/config.js';
import { loopedModel } from './looped-model.js';

interface Suite {
  readonly files: readonly string[];
  /** The tests that random weights can pass, or those that they can not; default: all. */
  readonly only?: string;
  readonly without?: string;
}

/**
 * Random weights predict steps of microseconds, never end a text or a string of a schema, and call no tool. Files of one
 * suite share a server.
 */
const SUITES: readonly Suite[] = [
  { files: ['engine/execution/run-prefill'] },
  { files: ['engine/worker/core'], without: 'admission counts on a stored prefix' },
  { files: ['engine/audit/auditor'] },
  { files: ['engine/audit/audit-properties'] },
  { files: ['conformance/openai-engine'], without: 'a forced tool|auto:' },
  {
    files: ['ai-sdk', 'langchain', 'messages', 'responses'].map((name) => `conformance/${name}`),
    only: 'same text|same as whole text|budget|batch of prompts|body fields|errors',
  },
  { files: ['chaos/fuzz'] },
];

const model = await loopedModel(t.testdir(), 1);

for (const { files, only, without } of SUITES)
  void t.test(files.join(', '), (t) => {
    const script = files.length > 1 ? 'together.js' : `${files[0]}.test.js`;
    const { status, stdout } = spawnSync(process.execPath, [path.join(packageRoot, 'dist', 'test', script)], {
      cwd: packageRoot,
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      env: {
        ...process.env,
        // tap hands its recorder on.
        NODE_OPTIONS: '',
        SORTIE_TEST_FILES: files.map((name) => `dist/test/${name}.test.js`).join(' '),
        SORTIE_TEST_MODEL: model,
        SORTIE_TEST_FUZZ: model,
        ...(only !== undefined && { TAP_GREP: only }),
        ...(without !== undefined && { TAP_GREP: without, TAP_INVERT: '1' }),
      },
    });
    t.equal(status, 0, (stdout.match(/^ *not ok .*$/gm) ?? []).join('\n'));
    t.match(stdout, /^ok \d+ - .* # time/m, 'tests ran');
    t.end();
  });
