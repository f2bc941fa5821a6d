/** The parts of bench:goodput that need no server: questions, jobs, budgets, sides, summaries and cells. */
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { spawn } from 'node:child_process';
import t from 'tap';
import { cellsOf, comparisonsOf, errorOf } from '../../bench/goodput/cells.js';
import { dayOf, dayRun, dayTable } from '../../bench/goodput/day.js';
import { seeded } from '../../bench/loadgen/random.js';
import { REQUESTS } from '../../bench/everyday/requests.js';
import { budgetsOf, checkedQuestions, type GoodputAnswer, type Job, jobsOf, sender } from '../../bench/goodput/job.js';
import { cellTable, comparisonTable } from '../../bench/goodput/lines.js';
import {
  earlier,
  type Record as BenchRecord,
  type Run,
  type Sent,
  summaryOf,
  withRun,
} from '../../bench/goodput/record.js';
import { allSides, expectedAccuracy, sideOf } from '../../bench/goodput/side.js';
import { NO_BUDGET } from '../../bench/loadgen/budgets.js';
import { intervalShare, isMet } from '../../bench/loadgen/summary.js';
import { parseQuestions, readQuestions } from '../../bench/loadgen/questions.js';
import { score } from '../../bench/everyday/score.js';
import { passages } from '../../bench/goodput/passages.js';
import { pointsOf, withPromptAccuracies } from '../../bench/goodput/prompt-accuracy.js';
import { childrenOf, residentMb } from '../../bench/processes.js';
import { RateMeter } from '../../bench/engine/scenario.js';

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

void t.test('questions are the held-out requests with a check', async (t) => {
  const heldOut = checkedQuestions(REQUESTS, 'held-out');
  t.ok(heldOut.length >= 60);
  for (const { half, right } of heldOut) t.ok(half === 'held-out' && right.length > 0);
});

void t.test('jobs repeat one shuffled order, and a budget belongs to the class alone', async (t) => {
  const questions = questionsOf(Array.from({ length: 7 }, (_, i) => `q ${i}?`));
  const classes = budgetsOf('1x,2x,4x', 250.4);
  const jobs = jobsOf(questions, classes, 60, 3);
  t.equal(jobs.length, 60);
  t.strictSame(jobs, jobsOf(questions, classes, 60, 3), 'every side gets the same jobs');
  t.notSame(jobs, jobsOf(questions, classes, 60, 4));
  const texts = jobs.map(({ question }) => question);
  t.equal(new Set(texts.slice(0, 7)).size, 7);
  t.strictSame(texts.slice(7, 14), texts.slice(0, 7));
  const times = new Set(jobs.map((job) => `${job.budgetClass} ${job.budget.totalMs}`));
  t.strictSame([...times].sort(), ['1x 250', '2x 501', '4x 1002']);
});

void t.test('budgets are ms or multiples, and others are named', async (t) => {
  t.strictSame(budgetsOf('500, 1.5x', 1000), [
    { name: '500', budget: budget(500) },
    { name: '1.5x', budget: budget(1500) },
  ]);
  for (const text of ['', '0', '-1', '2y', 'x', '1x,,2x', 'ttft:', 'tpot:1x'])
    t.throws(() => budgetsOf(text, 1), { message: /^--budgets must be positive ms or multiples .*, got "/ });
});

void t.test('expected answers need the accuracy of every exit', async (t) => {
  const model = { name: 'm', layers: [10, 30], accuracy: new Map([[30, 1]]) };
  t.throws(() => expectedAccuracy(model), {
    message: /^--expected must have a model .* "accuracy" .*, got "m" without it at exit 10$/,
  });
  const whole = new Map([...model.accuracy, [10, 0.5] as const]);
  t.equal(expectedAccuracy({ ...model, accuracy: whole }), whole);
});

void t.test('a side states a budget, or an exit', async (t) => {
  const model = { name: 'm', layers: [10, 30], accuracy: new Map([[30, 1]]) };
  const stated = { 'x-latency-budget-ms': '500' };
  for (const [name, side, asked, body = {}] of [
    ['routed', 'routed', stated],
    [' routed truncate', 'routed', { ...stated, 'x-budget-on-miss': 'truncate' }],
    ['lands 10', 'fixed', { ...stated, 'x-exit-layer': '10' }],
    ['truncates 10', 'fixed', { ...stated, 'x-exit-layer': '10', 'x-budget-on-miss': 'truncate' }],
    ['rejects 10', 'fixed', { ...stated, 'x-exit-layer': '10', 'x-budget-on-miss': 'reject' }],
    ['fixed 30', 'fixed', { 'x-exit-layer': '30' }],
    ['llama-server', 'peer', {}],
    ['llama-server limit', 'peer', {}, { t_max_predict_ms: 500 }],
    ['url', 'peer', {}],
  ] as const) {
    const { kind, headers, fields } = sideOf(name, model);
    t.strictSame([kind, headers(budget(500.4)), fields(budget(500))], [side, asked, body], name);
  }
  const ends = ['llama-server', 'url', 'url abort'].map((name) => sideOf(name, model));
  const kinds = ends.map(({ aborts, isOther }) => `${aborts} ${isOther}`);
  t.strictSame(kinds, ['false false', 'false true', 'true true']);
  for (const name of ['', 'fixed', 'fixed 15', 'lands 15', 'fixed 30-1', 'Routed', 'routed now', 'llama-server 2'])
    t.throws(() => sideOf(name, model), { message: /^--sides must be .* an exit of 10, 30, .*, got "/ });
  const all = allSides([10, 30], true);
  const own = ['routed', 'lands 30', 'lands 10', 'fixed 30', 'fixed 10'];
  t.strictSame(all, [...own, 'llama-server', 'llama-server limit']);
  for (const name of all) t.equal(sideOf(name, model).name, name);
  t.strictSame(allSides([10, 30], false), own);
});

void t.test('a request is greedy and without max_tokens, and its answer is scored', async (t) => {
  const bodies: Record<string, unknown>[] = [];
  const report: Record<string, unknown> = {
    plan: { service_class: 'best_effort', exit_layer: 30 },
    exit_layers: { '30': 3 },
    actual_ms: 5,
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (data: Buffer) => (body += data.toString()));
    request.on('end', () => {
      bodies.push(JSON.parse(body) as Record<string, unknown>);
      const sortie = { ...report, ...(bodies.length === 1 && { landed: { at_token: 3 } }) };
      const events = [
        ...['It is Par', bodies.length === 1 ? 'is.' : 'ma.'].map((content) => ({ choices: [{ delta: { content } }] })),
        { choices: [{ delta: {}, finish_reason: 'stop' }], usage: { completion_tokens: 3 }, sortie },
      ];
      response.setHeader('content-type', 'text/event-stream');
      response.end([...events.map((event) => JSON.stringify(event)), '[DONE]'].map((e) => `data: ${e}\n\n`).join(''));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const side = sideOf('fixed 30', { name: 'm', layers: [30], accuracy: new Map([[30, 1]]) });
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const send = sender(address, 'm', side);
  const [first, second] = [await send(JOB, performance.now()), await send(JOB, performance.now())];
  t.match(first, { right: 1, isLanded: true, tokens: 3, finishReason: 'stop', serviceClass: 'best_effort' });
  t.match(second, { right: 0, isLanded: false });
  // Random weights: a whole answer counts by its exit's accuracy, and any other one 0.
  const expected = sender(address, 'm', side, new Map([[30, 0.8]]));
  t.equal((await expected(JOB, performance.now())).right, 0);
  report.outcome = 'whole';
  t.equal((await expected(JOB, performance.now())).right, 0.8);
  t.match(bodies[0], { model: 'm', temperature: 0 });
  t.notOk('max_tokens' in (bodies[0] ?? {}));
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

void t.test('a server without exits and classes has neither', async (t) => {
  const answer = { exits: null, serviceClass: null };
  t.match(summaryOf([sentOf(answer), sentOf({ ...answer, totalMs: 151 })]), {
    ...{ right: 1, rightInTime: 0.5, inTime: 0.5, deviation: 0.5, meanExit: null, guaranteed: 0, kept: null },
  });
});

const RUN: Run = {
  ...summaryOf([sentOf(), sentOf({ totalMs: 151 })]),
  ...{ side: 'routed', kind: 'routed', load: 1, seed: 1 },
};
const runOf = (side: string, rightInTime: number, more: Partial<Run> = {}): Run => ({
  ...RUN,
  ...{ side, rightInTime, requests: 100, kind: side.startsWith('fixed') ? 'fixed' : 'routed', ...more },
});

void t.test('a run replaces that of the same side, load and seed, and other options begin anew', async (t) => {
  const empty: BenchRecord = { options: { budgets: '1x' }, setup: null, runs: [] };
  const record = [RUN, { ...RUN, seed: 2 }, { ...RUN, inTime: 0 }].reduce(withRun, empty);
  const found = record.runs.map(({ seed, inTime }) => `${seed}: ${inTime}`);
  t.strictSame(found, ['2: 0.5', '1: 0']);
  const dir = t.testdir({ 'goodput.json': JSON.stringify(record) });
  t.equal(earlier(`${dir}/goodput.json`, empty).runs.length, 2);
  t.equal(earlier(`${dir}/goodput.json`, { ...empty, options: { budgets: '2x' } }).runs.length, 0);
  t.equal(earlier(`${dir}/none.json`, empty), empty);
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

void t.test('a day has its mean load, its crowd and bursts, and regrets against the best fixed side', async (t) => {
  const day = dayOf(1000, 2, seeded(1));
  t.equal(day.length, 24);
  const rates = day.map(({ times }) => times.length / 2000);
  for (const [i, { load }] of day.entries()) t.ok(Math.abs((rates[i] ?? NaN) - load) < 0.15 * load);
  t.equal(day[4]?.load, 5);
  /** Squared coefficient of variation of the intervals of a phase. */
  const variation = (phase: number): number => {
    const times = day[phase]?.times ?? [];
    const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    return gaps.reduce((sum, gap) => sum + (gap / mean - 1) ** 2, 0) / gaps.length;
  };
  t.ok(variation(20) < 1.3 && variation(21) > 3);

  const short = day.map((phase) => ({ ...phase, times: phase.times.slice(0, 20) }));
  const runOf = (name: string, isRight: (phase: number, i: number) => boolean) => {
    const sent = short.flatMap(({ times }, phase) =>
      times.map((atMs, i) => ({ ...sentOf(isRight(phase, i) ? {} : { right: 0, totalMs: 1e6 }), atMs })),
    );
    const { layers, accuracy } = { layers: [15, 30], accuracy: new Map<number, number>() };
    return dayRun(name, sideOf(name, { name: 'm', layers, accuracy }), 1, short, sent);
  };
  // Behind the crowd, ten requests of the routed side are late.
  const routed = runOf('routed', (phase, i) => phase !== 4 && !(phase === 5 && i < 10));
  const fixed = runOf('lands 30', (phase) => phase % 2 === 0);
  t.equal(routed.phases[4], 0);
  const [from = NaN, to = NaN] = [short[5]?.times[0], short[5]?.times[10]];
  t.equal(routed.recoveryS, (to - from) / 1000);
  t.strictSame(dayTable([routed, fixed]).slice(2), [
    `| routed | 1 | 0.938 | 0.938 | 0.000 | -0.438 | -0.438 | 1.000 | ${((to - from) / 1000).toFixed(0)} |`,
    '| lands 30 | 1 | 0.500 | 0.500 | 0.000 | 0.000 | 0.000 | 0.000 | 0 |',
  ]);
  // A phase without requests counts in no figure, and a table without a fixed side has no regrets.
  const sparse = { ...routed, phases: routed.phases.map((worth, i) => (i === 4 ? null : worth)) };
  t.match(dayTable([sparse])[2], '| routed | 1 | 0.938 | 0.938 | 0.500 | - | - | - |');
});

// The long prompts of bench:goodput, and the accuracy of exits by their lengths.

void t.test('a passage has 300 to 1,500 tokens, and its answer in one sentence', async (t) => {
  const all = passages('held-out', 120);
  t.equal(new Set(all.map(({ request }) => request)).size, 120);
  const words = all.map(({ request }) => request.split(' ').length);
  t.ok(Math.min(...words) >= 190 && Math.max(...words) <= 1000, `${Math.min(...words)} to ${Math.max(...words)} words`);
  t.ok(words.filter((count) => count > 600).length > 20 && words.filter((count) => count < 300).length > 20);
  for (const check of all) {
    const { request: text } = check;
    const [answer] = check.right;
    const sentences = text.split('\n\n')[1]?.split(/(?<=\.) /) ?? [];
    t.equal(sentences.filter((sentence) => score(check, sentence) === 1).length, 1, `${String(answer)}: ${text}`);
    t.equal(score(check, text.split('\n\n')[2] ?? ''), 0, 'the question does not tell it');
  }
});

void t.test('a seed gives the same passages, and the halves share none', async (t) => {
  t.strictSame(passages('tuning', 20), passages('tuning', 20));
  const tuning = new Set(passages('tuning', 120).map(({ request }) => request));
  t.notOk(passages('held-out', 120).some(({ request }) => tuning.has(request)));
});

void t.test('the accuracy is a share of full depth, by length', async (t) => {
  const scored = [300, 100, 200, 400].map((tokens, i) => ({ tokens, full: 1, early: i % 2 }));
  const points = pointsOf([...scored, { tokens: 350, full: 0.5, early: 1 }], 2);
  t.strictSame(points.flat(), [150, 0.5, 350, 0.8]);
  t.throws(() => pointsOf([{ tokens: 1, full: 0, early: 1 }], 1), /no right answer to 1 passages/);
});

void t.test('it goes into the manifest beside other figures', async (t) => {
  const exits = [
    { layer: 15, quality: { kl: 0.6, accuracy: 0.5 } },
    { layer: 30, quality: { kl: 0.1 } },
  ];
  const points: [number, number][] = [
    [40, 0.5],
    [300, 0.1],
  ];
  const text = JSON.stringify({ name: 'm', exits, prompt: { layer: 30, quality: { kl: 0.1 } } });
  const [early, full] = exits;
  t.strictSame(JSON.parse(withPromptAccuracies(text, new Map([[15, points]]))), {
    name: 'm',
    exits: [{ layer: 15, quality: { ...early?.quality, accuracyByPrompt: points } }, full],
    prompt: { layer: 30, quality: { kl: 0.1 } },
  });
});

void t.test('residentMb and childrenOf describe a child', { skip: process.platform !== 'linux' }, async (t) => {
  const code = 'const held = Buffer.alloc(64e6, 1); console.log(process.memoryUsage.rss()); process.stdin.resume()';
  const child = spawn(process.execPath, ['-e', code], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  const own = Number(said) / 1e6;
  const found = residentMb(child.pid ?? 0);
  t.ok(own > 64 && Math.abs(found - own) < 20, `${found} MB, and ${own} MB by its own count`);
  t.ok(childrenOf(process.pid).includes(child.pid ?? 0));
  child.stdin.end();
  await once(child, 'exit');
  t.throws(() => residentMb(child.pid ?? 0), { message: `process ${child.pid} has ended` });
});

void t.test('decode counts from the first token of every sequence to the end of the first sequence', async (t) => {
  let now = 1000;
  const meter = new RateMeter({ parallel: 2, promptTokens: 50, answerTokens: 4 }, () => now);
  const token = (at: number, isFirst: boolean): void => {
    now = at;
    meter.token(isFirst);
  };
  token(1100, true);
  token(1150, false); // the other prompt still waits
  token(1200, true);
  token(1210, false);
  token(1220, false);
  token(1230, false);
  now = 1250;
  meter.ended();
  token(1300, false); // alone
  now = 1300;
  meter.ended();
  t.strictSame(meter.rate(), { prefill: (1000 * 100) / 200, decode: (1000 * 3) / 50 });
});

void t.test('the rate is NaN without tokens', async (t) => {
  const meter = new RateMeter({ parallel: 1, promptTokens: 5, answerTokens: 2 });
  t.ok(Number.isNaN(meter.rate().prefill));
  t.ok(Number.isNaN(meter.rate().decode));
});
