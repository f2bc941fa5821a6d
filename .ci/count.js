/**
 * Adds up a CI run: `node .ci/count.js STEPS`. STEPS has a line "exit code <TAB> name <TAB> report" per step.
 *
 * Each test of a TAP (.tap) or JUnit (.xml) report counts; a step without a report ("-") is one check. A failed step
 * without a failure in its report counts as one failure. Prints "N passed, N failed, N skipped" as the last line, and
 * exits with 1 if a test failed or none ran.
 */
import { existsSync, readFileSync } from 'node:fs';

const number = (match) => Number(match?.[1] ?? 0);

/** tap closes with "# { total: 4, pass: 2, fail: 1, skip: 1 }" and leaves out zeros. */
function countTap(text) {
  const totals = [...text.matchAll(/^# \{ (total: .*) \}$/gm)].at(-1)?.[1] ?? '';
  const of = (key) => number(new RegExp(`\\b${key}: (\\d+)`).exec(totals));
  return { passed: of('pass'), failed: of('fail'), skipped: of('skip') + of('todo') };
}

function countJunit(text) {
  const suites = [...text.matchAll(/<testsuite\s[^>]*>/g)].map(([tag]) => tag);
  const of = (key) => suites.reduce((sum, tag) => sum + number(new RegExp(`\\b${key}="(\\d+)"`).exec(tag)), 0);
  const failed = of('failures') + of('errors');
  return { passed: of('tests') - failed - of('skipped'), failed, skipped: of('skipped') };
}

function countStep(code, report) {
  if (report === '-') return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 };
  const text = existsSync(report) ? readFileSync(report, 'utf8') : '';
  const counts = report.endsWith('.xml') ? countJunit(text) : countTap(text);
  // An exit code outranks a report, and a report without tests is not a pass.
  const unseen = counts.failed === 0 && (code !== 0 || counts.passed === 0);
  return unseen ? { ...counts, failed: 1 } : counts;
}

const steps = readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean);
const total = { passed: 0, failed: 0, skipped: 0 };
for (const line of steps) {
  const [code, name, report] = line.split('\t');
  const counts = countStep(Number(code), report);
  for (const key of Object.keys(total)) total[key] += counts[key];
  if (counts.failed > 0) console.log(`FAILED: ${name} (exit ${code}, ${counts.failed} failed)`);
}
if (total.passed + total.failed === 0) total.failed = 1;
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 ? 1 : 0;
