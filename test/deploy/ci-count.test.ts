/** The closing line of .ci/run counts checks, and cannot hide a failure. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/config.js';

const GOOD_TAP = '# { total: 4, pass: 4 }\n';
const BAD_TAP = 'not ok 1 - x\n# { total: 5, pass: 2, fail: 1, skip: 1, todo: 1 }\n';
const JUNIT =
  '<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="9" time="0.1" /></testsuites>';

/** Each step is [exit code, report]. */
function count(t: Test, steps: readonly (readonly [number, string])[]) {
  const dir = t.testdir({
    'good.tap': GOOD_TAP,
    'bad.tap': BAD_TAP,
    'pytest.xml': JUNIT,
    steps: steps.map(([code, report]) => `${code}\tstep\t${report}\n`).join(''),
  });
  const { status, stdout } = spawnSync(process.execPath, [join(packageRoot, '.ci', 'count.js'), 'steps'], {
    cwd: dir,
    encoding: 'utf8',
  });
  return { status, last: stdout.trimEnd().split('\n').at(-1) };
}

void t.test('tests and single checks are added up', (t) => {
  t.same(
    count(t, [
      [0, 'good.tap'],
      [0, '-'],
    ]),
    { status: 0, last: '5 passed, 0 failed' },
  );
  t.same(
    count(t, [
      [1, 'bad.tap'],
      [0, '-'],
    ]),
    { status: 1, last: '3 passed, 1 failed, 2 skipped' },
  );
  t.same(count(t, [[1, 'pytest.xml']]), { status: 1, last: '5 passed, 2 failed, 2 skipped' });
  t.end();
});

void t.test('a failure without a report is counted', (t) => {
  t.same(
    count(t, [
      [1, '-'],
      [0, 'good.tap'],
    ]),
    { status: 1, last: '4 passed, 1 failed' },
    'a check',
  );
  t.same(count(t, [[1, 'good.tap']]), { status: 1, last: '4 passed, 1 failed' }, 'the exit code outranks the report');
  t.same(count(t, [[1, 'missing.tap']]), { status: 1, last: '0 passed, 1 failed' }, 'a crash before the first test');
  t.same(count(t, [[0, 'missing.tap']]), { status: 1, last: '0 passed, 1 failed' }, 'no test ran');
  t.same(count(t, []), { status: 1, last: '0 passed, 1 failed' }, 'nothing ran');
  t.end();
});
