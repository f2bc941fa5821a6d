/**
 * Adds up a CI run: `node .ci/count.js STEPS`. STEPS has a line "exit code <TAB> name <TAB> report" per step.
 *
 * Each test of a TAP (.tap) or JUnit (.xml) report counts, whatever its assertions; a step without a report ("-") is one
 * check. A failed step without a failure in its report counts as one failure. Prints the failures of the reports, and
 * "N passed, N failed, N skipped" as the last line, and exits with 1 if a test failed or none ran.
 */
import { existsSync, readFileSync } from 'node:fs';

const number = (match) => Number(match?.[1] ?? 0);

/**
 * Counts the innermost tests of a TAP report. tap gives the time of a test, and none of an assertion. A test or file that
 * holds tests counts itself only if it failed and none of them did.
 */
function countTap(text) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  /** Tests and failures by depth, since the last test above. */
  const seen = [];
  const opened = [];
  const end = (depth, isOk, isSkipped) => {
    const { tests = 0, failed = 0 } = seen[depth + 1] ?? {};
    seen.length = depth + 1;
    if (isSkipped) counts.skipped += 1;
    else if (isOk && tests === 0) counts.passed += 1;
    else if (!isOk && failed === 0) counts.failed += 1;
    const own = (seen[depth] ??= { tests: 0, failed: 0 });
    own.tests += 1;
    if (!isOk && !isSkipped) own.failed += 1;
  };
  // Diagnostics stand between lines of three dashes and of three dots, and quote code.
  for (const line of text.replace(/^( *)---$.*?^\1\.\.\.$/gms, '').split('\n')) {
    const depth = line.search(/\S/) / 4;
    if (line.trim() === '}' && opened.at(-1)?.depth === depth) {
      const { isOk, isSkipped } = opened.pop();
      end(depth, isOk, isSkipped);
    }
    const [, not, name] = /^ *(not )?ok \d+(.*)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const isSkipped = / # (?:SKIP|TODO)\b/i.test(name);
    if (!isSkipped && !name.includes(' # time=')) continue;
    // The tests of a buffered test follow between braces.
    const isOk = not === undefined;
    if (name.endsWith(' {')) opened.push({ depth, isOk, isSkipped });
    else end(depth, isOk, isSkipped);
  }
  return counts;
}

function countJunit(text) {
  const suites = [...text.matchAll(/<testsuite\s[^>]*>/g)].map(([tag]) => tag);
  const of = (key) => suites.reduce((sum, tag) => sum + number(new RegExp(`\\b${key}="(\\d+)"`).exec(tag)), 0);
  const failed = of('failures') + of('errors');
  return { passed: of('tests') - failed - of('skipped'), failed, skipped: of('skipped') };
}

/** The names of a report's failures, at most 20 lines: the end of a log is often all that is kept of it. */
function failuresOf(text) {
  const failures = text.match(/^ *not ok (?!.* # TODO).*|<testcase[^>]*>(?=\s*<(?:failure|error))/gm) ?? [];
  return failures.slice(0, 20).map((failure) => failure.slice(0, 200));
}

function countStep(code, report) {
  if (report === '-') return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
  const text = existsSync(report) ? readFileSync(report, 'utf8') : '';
  const counts = report.endsWith('.xml') ? countJunit(text) : countTap(text);
  // An exit code outranks a report, and a report without tests is not a pass.
  const unseen = counts.failed === 0 && (code !== 0 || counts.passed + counts.skipped === 0);
  return unseen ? { ...counts, failed: 1 } : counts;
}

const steps = readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean);
const total = { passed: 0, failed: 0, skipped: 0 };
for (const line of steps) {
  const [code, name, report] = line.split('\t');
  const counts = countStep(Number(code), report);
  for (const key of Object.keys(total)) total[key] += counts[key];
  if (counts.failed === 0) continue;
  console.log(`FAILED: ${name} (exit ${code}, ${counts.failed} failed)`);
  if (existsSync(report)) for (const failure of failuresOf(readFileSync(report, 'utf8'))) console.log(failure);
}
if (total.passed + total.failed === 0) total.failed = 1;
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 ? 1 : 0;
