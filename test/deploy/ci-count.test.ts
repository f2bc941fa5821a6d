/** The closing line of .ci/run counts checks, and cannot hide a failure. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';

/** A file with two tests, of which one has a nested test; and a file with one, written in braces. */
const GOOD_TAP = `TAP version 14
# Subtest: a.test.js
    # Subtest: first
        ok 1 - should be equal
        ok 2 - should be equal
        # Subtest: nested
            1..0
        ok 3 - nested # time=1ms
        1..3
    ok 1 - first # time=2ms

    # Subtest: second
        ok 1 - should be equal
    ok 2 - second # time=2ms
ok 1 - a.test.js # time=9ms
ok 2 - b.test.js # time=9ms {
    ok 1 - third # time=1ms {
        ok 1 - should be equal
    }
    ok 2 - fourth # time=1ms {
        ok 1 - should be equal
    }
}
# { total: 4, pass: 4 }
`;
/** A failed test, a test that is left out, one to do, two that passed; and a file that ended early. */
const BAD_TAP = `# Subtest: a.test.js
    # Subtest: first
        ok 1 - should be equal
        not ok 2 - should be equal
          ---
          source: |
            }
        ok 9 - quoted # time=1ms
          ...
    not ok 1 - first # time=2ms
    ok 2 - second # SKIP no program
    not ok 3 - third # TODO
    ok 4 - fourth # time=2ms
not ok 1 - a.test.js # time=9ms
# Subtest: b.test.js
    ok 1 - fifth # time=2ms
    not ok 2 - timeout!
not ok 2 - b.test.js # time=9ms
`;
/** A file whose only test a missing program leaves out. */
const SKIPPED_TAP = `# Subtest: a.test.js
    ok 1 - skipped # SKIP no program
ok 1 - a.test.js # time=9ms
`;
const JUNIT =
  '<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="9" time="0.1">' +
  '<testcase name="a" time="0.1" /><testcase name="b" time="0.1"><failure message="m"></failure></testcase></testsuite></testsuites>';

/** @param steps exit code and report of each */
function count(t: Test, steps: string) {
  const lines = steps.split(', ').filter(Boolean);
  const dir = t.testdir({
    'good.tap': GOOD_TAP,
    'bad.tap': BAD_TAP,
    'skipped.tap': SKIPPED_TAP,
    'pytest.xml': JUNIT,
    steps: lines.map((step) => `${step.replace(' ', '\tstep\t')}\n`).join(''),
  });
  const { status, stdout } = spawnSync(process.execPath, [join(packageRoot, '.ci', 'count.js'), 'steps'], {
    cwd: dir,
    encoding: 'utf8',
  });
  return { status, stdout, last: stdout.trimEnd().split('\n').at(-1) };
}

/** Title, steps as in the file, exit code and last line. */
const CASES: readonly (readonly [string, string, number, string])[] = [
  ['tests and single checks', '0 good.tap, 0 -', 0, '5 passed, 0 failed'],
  ['failed tests beside a check', '1 bad.tap, 0 -', 1, '3 passed, 2 failed, 2 skipped'],
  ['a report that skips all its tests', '0 skipped.tap, 0 -', 0, '1 passed, 0 failed, 1 skipped'],
  ['a report of pytest', '1 pytest.xml', 1, '5 passed, 2 failed, 2 skipped'],
  ['a failed check', '1 -, 0 good.tap', 1, '4 passed, 1 failed'],
  ['an exit code that outranks the report', '1 good.tap', 1, '4 passed, 1 failed'],
  ['a crash before the first test', '1 missing.tap', 1, '0 passed, 1 failed'],
  ['a report without a test', '0 missing.tap', 1, '0 passed, 1 failed'],
  ['no step', '', 1, '0 passed, 1 failed'],
];

for (const [title, steps, status, last] of CASES)
  void t.test(`the count of ${title}`, (t) => {
    const counted = count(t, steps);
    t.same({ status: counted.status, last: counted.last }, { status, last });
    t.end();
  });
