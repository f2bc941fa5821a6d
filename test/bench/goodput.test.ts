/** The parts of bench:goodput that need no server: files of questions, jobs of natural length, summaries. */
import t from 'tap';
import type { Job } from '../../bench/goodput/job.js';
import { naturalJobs } from '../../bench/goodput/natural.js';
import { summaryOf } from '../../bench/goodput/summary.js';
import type { Answered } from '../../src/load/ask.js';
import type { Sent as SentJob } from '../../src/load/run.js';
import { intervalShare } from '../../src/load/summary.js';
import { parseQuestions, readQuestions } from '../../src/load/questions.js';

type Sent = SentJob<Job>;

const ANSWER: Answered = {
  ...{
    ttftMs: 10,
    tpotMs: 4,
    totalMs: 100,
    lagMs: 0,
    tokens: 20,
    finishReason: 'stop',
    error: null,
    exits: { '10': 5, '30': 15 },
  },
  ...{
    serviceClass: 'guaranteed',
    predictedMs: 80,
    predictedTtftMs: null,
    isLanded: null,
    predictedP10Ms: null,
    predictedP90Ms: null,
  },
  ...{ actualMs: 99, queueMs: 0 },
};
const JOB: Sent['job'] = {
  ...{ id: 'q0', budgetClass: 'tight', budgetMs: 150, tokens: 20, isExact: false },
  asked: { path: '/chat/completions', body: {} },
};

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

void t.test(
  'natural jobs repeat one shuffled order, have budgets by the idle answers, and set no max_tokens',
  async (t) => {
    const known = Array.from({ length: 7 }, (_, i) => ({ question: `q ${i}?`, tokens: 10 + i, idleMs: 100 * (i + 1) }));
    const jobs = naturalJobs(known, 20, 3);
    t.equal(jobs.length, 20);
    t.strictSame(jobs, naturalJobs(known, 20, 3), 'every side gets the same jobs');
    const asked = jobs.map(({ asked }) => JSON.stringify(asked));
    t.equal(new Set(asked.slice(0, 7)).size, 7);
    t.strictSame(asked.slice(7, 14), asked.slice(0, 7));
    const times = new Map([
      ['tight', 2],
      ['medium', 4],
      ['loose', 10],
    ]);
    for (const { budgetClass, budgetMs, tokens, isExact, asked } of jobs) {
      t.equal(budgetMs, (times.get(budgetClass) ?? NaN) * 100 * (tokens - 9));
      t.strictSame([isExact, 'max_tokens' in asked.body, 'ignore_eos' in asked.body], [false, false, false]);
    }
  },
);

void t.test('the share inside the predicted interval counts answered requests with an interval', async (t) => {
  const interval = { predictedP10Ms: 90, predictedP90Ms: 110 };
  const answers = [90, 100, 110, 111, 89].map((totalMs) => ({ ...ANSWER, ...interval, totalMs }));
  t.equal(intervalShare(answers), 0.6);
  t.equal(intervalShare([...answers, ANSWER, { ...ANSWER, ...interval, error: { kind: '500', message: '' } }]), 0.6);
  t.equal(intervalShare([ANSWER]), null);
});

void t.test('an answer is complete if the model ends it, or at its exact length', async (t) => {
  const quality = (layer: number): number => layer / 30;
  const summary = (job: Partial<Sent['job']>, answer: Partial<Answered>) =>
    summaryOf([{ job: { ...JOB, ...job }, atMs: 0, answer: { ...ANSWER, ...answer } }], quality, 30);
  const { attainment, attainmentOfGuaranteed, guaranteed, meanExit, predictionError } = summary({}, { tokens: 33 });
  t.strictSame([attainment, attainmentOfGuaranteed, guaranteed, meanExit, predictionError], [1, 1, 1, 25, 0.25]);
  t.equal(summary({}, { finishReason: 'length' }).attainment, 0);
  t.equal(summary({}, { totalMs: 151 }).attainment, 0);
  t.equal(summary({ isExact: true }, { finishReason: 'length' }).attainment, 1);
  t.equal(summary({ isExact: true }, { tokens: 19 }).attainment, 0);
  t.equal(summary({}, { serviceClass: 'best_effort' }).guaranteed, 0);
  t.equal(summary({}, { serviceClass: null, exits: null }).guaranteed, null);
  t.equal(summary({}, { exits: null }).meanExit, 30);
});
