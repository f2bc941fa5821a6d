/** The parts of bench:goodput that need no server: questions, jobs, budgets, sides, summaries and cells. */
import t from 'tap';
import { cellsOf, comparisonsOf, errorOf } from '../../bench/goodput/cells.js';
import { type GoodputAnswer, type Job, jobsOf } from '../../bench/goodput/job.js';
import { cellTable, comparisonTable } from '../../bench/goodput/lines.js';
import { type Run, type Sent, summaryOf } from '../../bench/goodput/record.js';
import { NO_BUDGET } from '../../bench/loadgen/budgets.js';
import { intervalShare, isMet } from '../../bench/loadgen/summary.js';
import { parseQuestions, readQuestions } from '../../bench/loadgen/questions.js';

const ANSWER: GoodputAnswer = {
  ...{ ttftMs: 10, tpotMs: 4, totalMs: 100, lagMs: 0, tokens: 20, finishReason: 'stop', error: null },
  ...{ exits: { '10': 5, '30': 15 }, serviceClass: 'guaranteed', predictedMs: 80, predictedTtftMs: null },
  ...{ predictedP10Ms: null, predictedP90Ms: null, actualMs: 99, queueMs: 0, right: 1, isLanded: false },
};
const budget = (totalMs: number) => ({ ...NO_BUDGET, totalMs });
const QUESTION = 'What is the capital of France?';
const checkOf = (request: string) => ({ half: 'held-out', kind: 'fact', request, right: ['Paris'] }) as const;
const questionsOf = (texts: readonly string[]) => texts.map((text) => ({ ...checkOf(text), right: ['Paris'] }));
const [JOB] = jobsOf(questionsOf([QUESTION]), [{ name: '1x', budget: budget(150) }], 1, 0) as [Job];
const sentOf = (answer: Partial<GoodputAnswer> = {}, job: Partial<Job> = {}): Sent => ({
  ...{ job: { ...JOB, ...job }, atMs: 0, answer: { ...ANSWER, ...answer } },
});

void t.test('a question is a line, or an instruction with its input', async (t) => {
  t.strictSame(parseQuestions('What is 2 + 2?\n\n  Name a colour. \r\n'), ['What is 2 + 2?', 'Name a colour.']);
  const entries = [
    { instruction: 'Summarize.', input: ' A text. ', motivation_app: 'x' },
    { instruction: ' Tell a joke. ', input: '' },
    { instruction: ' ', input: 'No question' },
    { instruction: 'Name a river.', right: ['Rhine'] },
  ];
  t.strictSame(parseQuestions(JSON.stringify(entries)), ['Summarize.\n\nA text.', 'Tell a joke.', 'Name a river.']);
  t.throws(() => parseQuestions(' \n'), { message: 'the file must hold at least one question' });
  t.throws(() => parseQuestions('[]'), { message: 'the file must hold at least one question' });
  for (const entry of ['{"instruction": 1}', '{"instruction": "a", "input": 2}', 'null'])
    t.throws(() => parseQuestions(`[{"instruction": "a"}, ${entry}]`), { message: /^entry 1 must have a text/ });
  t.throws(() => readQuestions('no/such/file'), { message: /^no\/such\/file: / });
});

void t.test('the share inside the predicted interval counts answered requests with an interval', async (t) => {
  const interval = { predictedP10Ms: 90, predictedP90Ms: 110 };
  const answers = [90, 100, 110, 111, 89].map((totalMs) => ({ ...ANSWER, ...interval, totalMs }));
  t.equal(intervalShare(answers), 0.6);
  t.equal(intervalShare([...answers, ANSWER, { ...ANSWER, ...interval, error: { kind: '500', message: '' } }]), 0.6);
  t.equal(intervalShare([ANSWER]), null);
});

void t.test('a right answer counts in time only, by the time of the client', async (t) => {
  t.equal(isMet(sentOf({ totalMs: 150 })), true);
  t.equal(isMet(sentOf({ totalMs: 150.1 })), false);
  t.equal(isMet(sentOf({ error: { kind: '429', message: '' } })), false);
  const summary = summaryOf([
    sentOf(),
    sentOf({ right: 0.5, isLanded: true, serviceClass: 'best_effort' }),
    sentOf({ right: 1, totalMs: 200, finishReason: 'length', tokens: 40, exits: { '30': 40 } }),
    sentOf({ right: 0, error: { kind: '500', message: '' }, tokens: 0, exits: null, serviceClass: null }),
  ]);
  t.match(summary, {
    ...{ requests: 4, inTime: 0.5, right: 0.625, rightInTime: 0.375, landed: 0.25, cut: 1, tokens: 20 },
    ...{ meanExit: 27.5, guaranteed: 2, kept: 0.5, failed: 1, ttftMs: { p50: 10 }, seconds: 0.2 },
  });
  t.ok(Math.abs(summary.deviation - Math.sqrt((1 + 0.25) / 4 - 0.375 ** 2)) < 1e-9);
});

void t.test('an answer in time that is cut or empty is not in time', async (t) => {
  const summary = summaryOf([
    sentOf({ outcome: 'landed', isLanded: true, finishReason: 'length' }),
    sentOf({ outcome: 'cut', finishReason: 'length' }),
    sentOf({ outcome: 'empty', finishReason: 'length', tokens: 0, right: 0 }),
    sentOf({ finishReason: 'length' }),
  ]);
  t.match(summary, { inTime: 0.25, right: 0.75, rightInTime: 0.25, cut: 2, outcomes: { landed: 1, cut: 2, empty: 1 } });
});

const RUN: Run = {
  ...summaryOf([sentOf(), sentOf({ totalMs: 151 })]),
  ...{ side: 'routed', kind: 'routed', load: 1, seed: 1 },
};
const runOf = (side: string, rightInTime: number, more: Partial<Run> = {}): Run => ({
  ...RUN,
  ...{ side, rightInTime, requests: 100, kind: side.startsWith('fixed') ? 'fixed' : 'routed', ...more },
});

void t.test('the error of a cell is the greater of that over requests and that over seeds', async (t) => {
  const runs = [runOf('routed', 0.4, { deviation: 0.5 }), runOf('routed', 0.6, { deviation: 0.5, seed: 2 })];
  t.equal(errorOf(runs.slice(0, 1)), 0.05);
  t.ok(Math.abs(errorOf(runs) - 0.1) < 1e-9);
  t.ok(Math.abs(errorOf(runs.map((run) => ({ ...run, rightInTime: 0.5 }))) - 0.5 / Math.sqrt(200)) < 1e-9);
});

void t.test('a routed side is compared with the fixed setting that is best at its load', async (t) => {
  const runs = [
    ...[runOf('routed', 0.5), runOf('routed', 0.7, { seed: 2 }), runOf('routed', 0.3, { load: 2 })],
    ...[runOf('fixed 30', 0.5), runOf('fixed 15', 0.55), runOf('fixed 15', 0.1, { load: 2 })],
    ...[runOf('fixed 10', 0.4, { load: 2 }), runOf('routed', 0.9, { load: 4 }), runOf('fixed 10', 1, { load: 5 })],
  ];
  const cells = cellsOf(runs);
  const listed = cells.map(({ load, side, worth }) => `${load} ${side}: ${worth}`);
  t.strictSame(listed, [
    ...['1 routed: 0.6', '1 fixed 15: 0.55', '1 fixed 30: 0.5'],
    ...['2 fixed 10: 0.4', '2 routed: 0.3', '2 fixed 15: 0.1', '4 routed: 0.9', '5 fixed 10: 1'],
  ]);
  const comparisons = comparisonsOf(cells);
  const shown = comparisons.map(({ routed, best }) => `${routed.load} ${best.side}`);
  t.strictSame(shown, ['1 fixed 15', '2 fixed 10']);
  t.match(comparisonTable(comparisons)[2], /^\| 1 \| routed \| 0\.600 ± .* \| fixed 15 \| .* \| \+0\.050 ± /);
  t.match(comparisonTable(comparisons)[3], /\| -0\.100 ± /);
  t.match(cellTable(cells)[2], /^\| 1 \| routed \| 2 \| 0\.600 ± /);
});

// The long prompts of bench:goodput, and the accuracy of exits by their lengths.
