/**
 * Right answers in time under load, over HTTP. The sides are Sortie routed by budgets, every exit that lands, and every
 * fixed setting of Sortie (exit and constant end pressure). With --peer, llama-server is a side too. ` hint` behind a side
 * asks all questions for short answers, and ` auto` lets the server do so (X-Budget-Hint).
 *
 *   npm run bench:goodput -- [--sides routed,"lands 30","lands 30 hint"] [--loads .5,1,2] [--seeds 1,2,3] [--out DIR]
 *     [--budgets 1x,2x,4x] [--workload long] [--questions FILE] [--server-args "..."] [--peer DIR --peer-model FILE] ...
 *
 * - Every side gets the same requests at the same instants: greedy, without `max_tokens`. The order of
 *   sides rotates from plan to plan, and a warm-up that counts for no side precedes the first one.
 * - Requests are the held-out everyday ones, whatever their answers. Those of `--questions` have no check. Those of
 *   `--workload long` are passages with a question (goodput/passages.ts).
 * - A budget belongs to a class, not to a request. `2x` is twice the median time of full depth alone.
 * - Load 1 is the throughput of full depth with clients that never pause.
 * - A pressure is the client's bias on the end tokens; a request of a fixed side has no budget.
 *
 * Writes goodput.json. A later call with the same options adds its sides, loads, arrivals
 * and seeds, so a long bench can run in pieces. Other server arguments make other sides, by their label.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fractions } from '../src/cli/values.js';
import { depthShape } from '../src/engine/depth-shape.js';
import { arrivalTimes } from './loadgen/arrivals.js';
import { type BudgetClass, budgetText } from './loadgen/budgets.js';
import { closedLoop, openLoop, type Send } from './loadgen/run.js';
import { loadManifest, MANIFEST_FILE } from '../src/engine/model/manifest-io.js';
import { seeded } from '../src/util/random.js';
import { cellsOf, comparisonsOf } from './goodput/cells.js';
import { budgetsOf, checkedQuestions, type GoodputAnswer, type Job, jobsOf } from './goodput/job.js';
import { type Question, sampledQuestions, sender } from './goodput/job.js';
import { cellTable, comparisonTable, lineOf } from './goodput/lines.js';
import { type Record as BenchRecord, type Run, type Traffic, earlier, withRun } from './goodput/record.js';
import { passages } from './goodput/passages.js';
import { measuredCosts, planningTime } from './goodput/planning-time.js';
import { promptRights, withPromptRights } from './goodput/prompt-right.js';
import { measureSetup, type Setup } from './goodput/setup.js';
import { allSides, expectedAccuracy, modelOf, OTHER, type Side, sideOf } from './goodput/side.js';
import { summaryOf } from './goodput/summary.js';
import { EMBEDDED, flag, number, numbers, optional, optionalNumber, optionsOf, runBench, text } from './options.js';
import { type Server, startPeer, startSortie, withServer } from './server.js';

const about = 'right answers in time under load, over HTTP: routed, fixed settings, llama-server';
const values = optionsOf('bench:goodput', about, {
  workload: text('name', 'everyday or long (passages of 300 to 1,500 tokens, each with a question)', 'everyday'),
  promptRight: flag(
    'measure only the accuracy of every exit behind long prompts, on other passages, and write it to the manifest',
  ),
  questions: optional('file', 'questions without a check: JSON array of {instruction, input}, or one a line'),
  expected: flag(
    "for models of random weights: answers of exactly max_tokens, each scored by its exit's accuracy in the manifest",
  ),
  maxTokens: optionalNumber('max_tokens of every request; default: none'),
  keep: number('size of the random sample of that file, or passages of --workload long', 60),
  out: text('dir', 'folder for the JSON', 'runs/goodput'),
  model: text('dir', 'model folder', EMBEDDED),
  serverArgs: text('text', 'further arguments of `sortie serve`, separated by spaces', ''),
  label: optional('text', 'text after the names of the sides; default: the server arguments'),
  peer: optional('dir', 'a build of llama.cpp, for the sides "llama-server[+BIAS]"'),
  peerModel: optional('file', 'GGUF file for the peer'),
  url: optional('url', 'an OpenAI-compatible server that runs, for the sides "url[ abort]"'),
  urlModel: text('name', 'its model', 'x'),
  peerAttention: text('mode', "the peer's flash attention: on, off or auto", 'auto'),
  budgets: text(
    'list',
    'multiples of the median time of full depth alone, or ms; ttft:1x for first tokens',
    '1x,2x,4x',
  ),
  loads: numbers('multiples of the throughput of full depth', [0.5, 1, 2]),
  arrivals: text('list', 'some of poisson, bursty and closed (clients that never pause)', 'poisson'),
  sides: text(
    'list',
    '"routed [ON_MISS]", "lands EXIT", "truncates EXIT", "rejects EXIT", "fixed EXIT[+BIAS]", "llama-server[+BIAS]", "url[ abort]", with or without " hint"; the first two " auto"; all: every one',
    'routed,lands 30,lands 15,routed hint,lands 30 hint,routed continue',
  ),
  pressures: numbers('biases on the end tokens of `--sides all`', [0, 2, 4, 6], fractions),
  requests: number('requests per run', 200),
  threads: number('compute threads of every side', 2),
  slots: number('concurrent sequences of every side', 16),
  seeds: numbers('seeds of requests, classes and arrivals', [1]),
  planningTime: flag("measure only the scheduler's time for a step with 64 requests"),
});

function trafficKinds(): Traffic[] {
  return values.arrivals.split(',').map((kind) => {
    if (kind === 'poisson' || kind === 'bursty' || kind === 'closed') return kind;
    throw new Error(`--arrivals must be some of poisson, bursty and closed, got "${values.arrivals}"`);
  });
}

const file = join(values.out, 'goodput.json');
/** Most requests in the measurement of capacity. */
const CAPACITY_REQUESTS = 120;
/** Most requests of a warm-up. */
const WARM_UP_REQUESTS = 100;

async function main(): Promise<void> {
  const { questions: path, keep, requests, slots, threads, budgets, expected } = values;
  const maxTokens = values.maxTokens ?? null;
  if ((values.peer === undefined) !== (values.peerModel === undefined))
    throw new Error('--peer DIR and --peer-model FILE must be given together');
  if (expected && maxTokens === null) throw new Error('--expected must have --max-tokens N');
  if (values.planningTime) return sayPlanningTime();
  if (values.promptRight) return measurePromptRight();
  const model = modelOf(loadManifest(values.model));
  const accuracy = expected ? expectedAccuracy(model) : null;
  const all = values.sides === 'all';
  const names = all ? allSides(model.layers, values.pressures, values.peer !== undefined) : values.sides.split(',');
  const sides = names.map((name) => sideOf(name, model));
  const others = sides.filter(({ name }) => OTHER.test(name));
  const theirs = sides.filter((side) => side.kind === 'peer' && !others.includes(side));
  const ours = sides.filter(({ kind }) => kind !== 'peer');
  if (theirs.length > 0 && values.peer === undefined)
    throw new Error(`--sides ${theirs[0]?.name} must have --peer DIR and --peer-model FILE`);
  const checked = path === undefined ? workload() : sampledQuestions(path, keep);
  if (others.length > 0 && values.url === undefined) throw new Error(`--sides ${others[0]?.name} must have --url URL`);
  const questions = expected ? checked.map(({ text }) => ({ text, check: null })) : checked;
  const form = { maxTokens, fields: expected ? { ignore_eos: true } : {} };
  const plans = plansOf();
  // A wrong budget fails before the setup.
  budgetsOf(budgets, 1);
  const own = { ...(values.workload === 'long' && { workload: 'long' }), questions: questions.length };
  const source = path === undefined ? own : { questions: path, keep };
  const scoring = { ...(expected && { expected }), ...(maxTokens !== null && { maxTokens }) };
  let record = earlier<BenchRecord>(file, {
    options: { model: model.name, ...source, ...scoring, budgets, requests, threads, slots },
    setup: null,
    runs: [],
  });
  await mkdir(values.out, { recursive: true });
  const save = (): Promise<void> => writeFile(file, `${JSON.stringify(record, null, 1)}\n`);

  if (record.setup === null || ours.length > 0)
    await withServer(sortieServer(), async (sortie) => {
      if (record.setup === null) {
        const sample = Math.min(CAPACITY_REQUESTS, requests);
        console.error(`set-up at full depth: ${questions.length} questions alone, ${sample} with ${slots} clients`);
        record = { ...record, setup: await measureSetup(sortie.url, model, questions, slots, sample, form) };
        await save();
      }
      await runSides(sortie, ours);
    });
  if (theirs.length > 0) await withServer(llamaServer(), (peer) => runSides(peer, theirs));
  if (values.url !== undefined && others.length > 0) await runSides({ url: values.url }, others, values.urlModel);
  const cells = cellsOf(record.runs);
  console.log([cellTable(cells), comparisonTable(comparisonsOf(cells))].map((lines) => lines.join('\n')).join('\n\n'));

  async function runSides({ url }: Pick<Server, 'url'>, its: readonly Side[], name = model.name): Promise<void> {
    const { setup } = record;
    if (setup === null) return;
    const classes = budgetsOf(budgets, setup.medianMs, setup.ttftMs);
    saySetup(setup, classes, plans, its.length);
    const send = (side: Side, plan: Plan, count: number, seed: number) =>
      sentOf(sender(url, name, side, accuracy), jobsOf(questions, classes, count, seed, form), plan, setup);
    // A fresh server runs code that V8 has not optimized, which would slow its first side.
    const [side] = its;
    const [plan] = plans;
    if (side !== undefined && plan !== undefined) await send(side, plan, Math.min(WARM_UP_REQUESTS, requests), 0);
    for (const [i, plan] of plans.entries()) {
      for (const side of rotated(its, i)) {
        const sent = await send(side, plan, requests, plan.seed);
        const run = { side: labelled(side.name), kind: side.kind, ...plan, ...summaryOf(sent) };
        record = withRun(record, run);
        console.error(lineOf(run));
        await save();
      }
    }
  }
}

/** The entries, from place `by` on and then from the first. */
function rotated<T>(all: readonly T[], by: number): T[] {
  const start = by % all.length;
  return [...all.slice(start), ...all.slice(0, start)];
}

/** @throws Error for another workload */
function workload(): Question[] {
  if (values.workload === 'long') return passages('held-out', values.keep);
  if (values.workload === 'everyday') return checkedQuestions('held-out');
  throw new Error(`--workload must be everyday or long, got "${values.workload}"`);
}

/** Writes the accuracy of every exit to the manifest, by the length of the prompt. */
async function measurePromptRight(): Promise<void> {
  const file = join(values.model, MANIFEST_FILE);
  const model = modelOf(loadManifest(values.model));
  const measured = await withServer(sortieServer(), ({ url }) => promptRights(url, model, values));
  console.error(JSON.stringify({ exits: [...measured.exits], prompt: measured.prompt }));
  await writeFile(file, withPromptRights(await readFile(file, 'utf8'), measured));
}

/** Requests of all sides in turn. */
type Plan = Pick<Run, 'arrivals' | 'load' | 'seed'>;

function plansOf(): Plan[] {
  return values.seeds.flatMap((seed) =>
    trafficKinds().flatMap((arrivals) =>
      (arrivals === 'closed' ? [null] : values.loads).map((load) => ({ arrivals, load, seed })),
    ),
  );
}

function sentOf(send: Send<Job, GoodputAnswer>, jobs: readonly Job[], { arrivals, load, seed }: Plan, setup: Setup) {
  if (arrivals === 'closed' || load === null) return closedLoop(send, jobs, 2 * values.slots);
  return openLoop(send, jobs, arrivalTimes(jobs.length, load * setup.perSecond, arrivals, seeded(seed + 2)));
}

function labelled(name: string): string {
  const label = values.label ?? values.serverArgs;
  return label === '' ? name : `${name} [${label}]`;
}

function saySetup(setup: Setup, classes: readonly BudgetClass[], plans: readonly Plan[], sides: number): void {
  const { medianMs, tokens, perSecond } = setup;
  const seconds = plans.reduce((sum, { load }) => sum + values.requests / (Math.min(1, load ?? 1) * perSecond), 0);
  console.error(
    `full depth alone: median ${medianMs.toFixed(0)} ms, mean ${tokens.toFixed(0)} tokens; load 1 is ` +
      `${perSecond.toFixed(2)} requests/s; budgets ${classes.map(({ budget }) => budgetText(budget)).join(', ')}\n` +
      `${plans.length * sides} runs, at most about ${Math.ceil((sides * seconds) / 60)} min`,
  );
}

async function sayPlanningTime(): Promise<void> {
  const costs = await measuredCosts(values.model, values.threads);
  const time = planningTime(costs, depthShape(loadManifest(values.model)));
  const perStep = time.stepMs + time.arrivals * time.admitMs;
  const share = (stepMs: number): string =>
    `${((100 * time.stepMs) / stepMs).toFixed(2)}% (${((100 * perStep) / stepMs).toFixed(2)}%) of ${stepMs.toFixed(0)} ms`;
  console.error(
    `scheduler, ${time.live} requests: ${time.stepMs.toFixed(2)} ms per step, ${time.admitMs.toFixed(2)} ms per arrival, ` +
      `${time.arrivals.toFixed(2)} arrivals per step; share of a step (with arrivals): ` +
      `${share(time.shallowStepMs)} (shallowest), ${share(time.deepStepMs)} (deepest)`,
  );
}

function sortieServer(): Promise<Server> {
  const { model, threads, slots, serverArgs } = values;
  const own = ['--threads', String(threads), '--max-running', String(slots), '--max-queue', '100000'];
  return startSortie(model, [...own, ...serverArgs.split(' ').filter((part) => part !== '')]);
}

function llamaServer(): Promise<Server> {
  const { peer = '', peerModel = '', peerAttention: attention, threads, slots } = values;
  return startPeer(peer, peerModel, { threads, slots, attention });
}

await runBench(main);
