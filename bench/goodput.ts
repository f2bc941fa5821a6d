/**
 * Right answers in time under load, over HTTP. The sides are Sortie routed by budgets, every exit that lands, every exit
 * without a budget, llama-server (`--peer`), and any other server (`--url`).
 *
 *   npm run bench:goodput -- [--sides routed,"lands 30","lands 15"] [--loads 0.5,1,2] [--seeds 1,2,3] [--out DIR]
 *     [--budgets 1x,2x,4x] [--workload long] [--server-args "..."] [--peer DIR --peer-model FILE] ...
 *
 * - Every side gets the same requests at the same instants: greedy, without `max_tokens`. The order of
 *   sides rotates from plan to plan, and a warm-up that counts for no side precedes the first one.
 * - Requests are the held-out everyday ones, whatever their answers. Those of `--workload long` are passages with a
 *   question (goodput/passages.ts).
 * - A budget belongs to a class, not to a request. `2x` is twice the median time of full depth alone.
 * - Load 1 is the throughput of full depth with clients that never pause.
 *
 * Writes goodput.json. A later call with the same options adds its sides, loads and seeds, so a long bench can run in
 * pieces. Other server arguments make other sides, by their label.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { depthShape } from '../src/engine/depth-shape.js';
import { loadManifest, MANIFEST_FILE } from '../src/engine/model/manifest-io.js';
import { seeded } from './loadgen/random.js';
import { type CheckedRequest, REQUESTS } from './everyday/requests.js';
import { cellsOf, comparisonsOf } from './goodput/cells.js';
import { budgetsOf, checkedQuestions, type JobForm, jobsOf, sender } from './goodput/job.js';
import { dayOf, dayPlot, dayRun, dayTable, FAULT } from './goodput/day.js';
import { cellTable, comparisonTable, lineOf } from './goodput/lines.js';
import { passages } from './goodput/passages.js';
import { measuredCosts, planningTime } from './goodput/planning-time.js';
import { promptAccuracies, withPromptAccuracies } from './goodput/prompt-accuracy.js';
import { type DayRun, earlier, type Plan, type Record as BenchRecord, summaryOf, withRun } from './goodput/record.js';
import { measureSetup, type Setup } from './goodput/setup.js';
import { allSides, expectedAccuracy, modelOf, type Side, sideOf } from './goodput/side.js';
import { type BudgetClass, budgetText } from './loadgen/budgets.js';
import { arrivalTimes, openLoop } from './loadgen/run.js';
import { EMBEDDED, flag, number, numbers, optional, optionalNumber, optionsOf, runBench, text } from './options.js';
import { takeCore } from './processes.js';
import { type Server, startPeer, startSortie, withServer } from './server.js';

const about = 'right answers in time under load, over HTTP: routed, fixed settings, llama-server';
const values = optionsOf('bench:goodput', about, {
  workload: text('name', 'everyday or long (passages of 300 to 1,500 tokens, each with a question)', 'everyday'),
  questions: text('file', 'everyday requests', REQUESTS),
  promptAccuracy: flag(
    'measure only the accuracy of every exit behind long prompts, on other passages, and write it to the manifest',
  ),
  expected: flag(
    "for models of random weights: answers of exactly max_tokens, each scored by its exit's accuracy in the manifest",
  ),
  maxTokens: optionalNumber('max_tokens of every request; default: none'),
  out: text('dir', 'folder for the JSON', 'runs/goodput'),
  model: text('dir', 'model folder', EMBEDDED),
  serverArgs: text('text', 'further arguments of `sortie serve`, separated by spaces', ''),
  label: optional('text', 'text after the names of the sides; default: the server arguments'),
  peer: optional('dir', 'a build of llama.cpp, for the sides "llama-server"'),
  peerModel: optional('file', 'GGUF file for the peer'),
  url: optional('url', 'an OpenAI-compatible server that runs, for the sides "url"'),
  urlModel: text('name', 'its model', 'x'),
  budgets: text('list', 'multiples of the median time of full depth alone, or ms', '1x,2x,4x'),
  loads: numbers('multiples of the throughput of full depth', [0.5, 1, 2]),
  sides: text('list', 'sides, by the names of goodput/side.ts; all: every one', 'routed,lands 30,lands 15'),
  requests: number('requests per run', 200),
  threads: number('compute threads of every side', 2),
  slots: number('concurrent sequences of every side', 16),
  seeds: numbers('seeds of requests, classes and arrivals', [1]),
  day: optionalNumber('seconds of a phase: each run is a day, whatever --loads and --requests say'),
  planningTime: flag("measure only the scheduler's time for a step with 64 requests"),
});

const file = join(values.out, 'goodput.json');
/** Most requests in the measurement of capacity. */
const CAPACITY_REQUESTS = 120;
/** Most requests of a warm-up. */
const WARM_UP_REQUESTS = 100;
/** Passages of the long workload. */
const PASSAGES = 60;

async function main(): Promise<void> {
  const { requests, slots, threads, budgets, expected, workload } = values;
  const maxTokens = values.maxTokens ?? null;
  if ((values.peer === undefined) !== (values.peerModel === undefined))
    throw new Error('--peer DIR and --peer-model FILE must be given together');
  if (expected && maxTokens === null) throw new Error('--expected must have --max-tokens N');
  if (values.planningTime) return sayPlanningTime();
  const model = modelOf(loadManifest(values.model));
  if (values.promptAccuracy) {
    const measured = await withServer(sortieServer(), ({ url }) => promptAccuracies(url, model, slots));
    console.error(JSON.stringify([...measured]));
    const manifest = join(values.model, MANIFEST_FILE);
    return writeFile(manifest, withPromptAccuracies(await readFile(manifest, 'utf8'), measured));
  }
  const accuracy = expected ? expectedAccuracy(model) : null;
  const sides = sidesOf((name) => sideOf(name, model), model.layers);
  const questions = questionsOf();
  const form: JobForm = { maxTokens, fields: expected ? { ignore_eos: true } : {} };
  // A wrong budget fails before the setup.
  budgetsOf(budgets, 1);
  const options = { model: model.name, workload, questions: values.questions, expected, maxTokens };
  let record: BenchRecord = earlier(file, {
    options: { ...options, budgets, requests, threads, slots },
    setup: null,
    runs: [],
  });
  await mkdir(values.out, { recursive: true });
  const save = (): Promise<void> => writeFile(file, `${JSON.stringify(record, null, 1)}\n`);

  if (record.setup === null || (sides.ours.length > 0 && values.day === undefined))
    await withServer(sortieServer(), async ({ url }) => {
      if (record.setup === null) {
        const sample = Math.min(CAPACITY_REQUESTS, requests);
        console.error(`set-up at full depth: ${questions.length} questions alone, ${sample} with ${slots} clients`);
        record = { ...record, setup: await measureSetup(url, model, questions, slots, sample, form) };
        await save();
      }
      if (values.day === undefined) await runSides(url, sides.ours);
    });
  if (values.day !== undefined && record.setup !== null) return runDays(values.day, record.setup);
  if (sides.theirs.length > 0) await withServer(llamaServer(), ({ url }) => runSides(url, sides.theirs));
  if (values.url !== undefined && sides.others.length > 0) await runSides(values.url, sides.others, values.urlModel);
  const cells = cellsOf(record.runs);
  console.log([cellTable(cells), comparisonTable(comparisonsOf(cells))].map((lines) => lines.join('\n')).join('\n\n'));

  async function runDays(seconds: number, setup: Setup): Promise<void> {
    const all = [...sides.ours, ...sides.theirs, ...sides.others];
    for (const [i, seed] of values.seeds.entries()) {
      for (const side of turned(all, i)) {
        const run = await dayOn(side, seed, seconds, setup);
        const others = (record.days ?? []).filter((each) => each.side !== run.side || each.seed !== seed);
        record = { ...record, days: [...others, run] };
        console.error(`seed ${seed} ${run.side}: right in time ${run.rightInTime.toFixed(3)} of ${run.requests}`);
        await save();
      }
    }
    const { days = [] } = record;
    await writeFile(join(values.out, 'day.svg'), dayPlot(model.name, days));
    console.log(dayTable(days).join('\n'));
  }

  /** Each side lives the day on a fresh server. */
  function dayOn(side: Side, seed: number, seconds: number, { perSecond, medianMs }: Setup): Promise<DayRun> {
    const day = dayOf(seconds, perSecond, seeded(seed + 2));
    const times = day.flatMap((phase) => phase.times);
    const live = async (url: string): Promise<DayRun> => {
      for (const phase of FAULT) takeCore(phase * seconds, seconds);
      const send = sender(url, side.isOther ? values.urlModel : model.name, side, accuracy);
      const jobs = jobsOf(questions, budgetsOf(budgets, medianMs), times.length, seed, form);
      return dayRun(labelled(side.name), side, seed, day, await openLoop(send, jobs, times));
    };
    if (side.isOther) return live(values.url ?? '');
    return withServer(side.kind === 'peer' ? llamaServer() : sortieServer(), ({ url }) => live(url));
  }

  async function runSides(url: string, its: readonly Side[], name = model.name): Promise<void> {
    const { setup } = record;
    if (setup === null) return;
    const plans = values.seeds.flatMap((seed) => values.loads.map((load): Plan => ({ load, seed })));
    const classes = budgetsOf(budgets, setup.medianMs);
    saySetup(setup, classes, plans, its.length);
    const send = (side: Side, { load, seed }: Plan, count: number, jobSeed: number) => {
      const times = arrivalTimes(count, load * setup.perSecond, 'poisson', seeded(seed + 2));
      return openLoop(sender(url, name, side, accuracy), jobsOf(questions, classes, count, jobSeed, form), times);
    };
    // A fresh server runs code that V8 has not optimized, which would slow its first side.
    const [side] = its;
    const [plan] = plans;
    if (side !== undefined && plan !== undefined) await send(side, plan, Math.min(WARM_UP_REQUESTS, requests), 0);
    for (const [i, plan] of plans.entries()) {
      for (const side of turned(its, i)) {
        const sent = await send(side, plan, requests, plan.seed);
        const run = { side: labelled(side.name), kind: side.kind, ...plan, ...summaryOf(sent) };
        record = withRun(record, run);
        console.error(lineOf(run));
        await save();
      }
    }
  }
}

/** The sides by their servers. @throws Error if an option of a server is absent */
function sidesOf(sideOf: (name: string) => Side, layers: readonly number[]) {
  const { peer, url } = values;
  const names = values.sides === 'all' ? allSides(layers, peer !== undefined) : values.sides.split(',');
  const sides = names.map(sideOf);
  const peers = sides.filter(({ kind }) => kind === 'peer');
  const [others, theirs] = [peers.filter(({ isOther }) => isOther), peers.filter(({ isOther }) => !isOther)];
  if (theirs.length > 0 && peer === undefined)
    throw new Error(`--sides ${theirs[0]?.name} must have --peer DIR and --peer-model FILE`);
  if (others.length > 0 && url === undefined) throw new Error(`--sides ${others[0]?.name} must have --url URL`);
  return { ours: sides.filter(({ kind }) => kind !== 'peer'), theirs, others };
}

/** @throws Error for another workload */
function questionsOf(): CheckedRequest[] {
  if (values.workload === 'long') return passages('held-out', PASSAGES);
  if (values.workload === 'everyday') return checkedQuestions(values.questions, 'held-out');
  throw new Error(`--workload must be everyday or long, got "${values.workload}"`);
}

/** The sides in another order for each plan. */
const turned = (sides: readonly Side[], by: number): Side[] =>
  sides.map((side, i) => sides[(i + by) % sides.length] ?? side);

function labelled(name: string): string {
  const label = values.label ?? values.serverArgs;
  return label === '' ? name : `${name} [${label}]`;
}

function saySetup(setup: Setup, classes: readonly BudgetClass[], plans: readonly Plan[], sides: number): void {
  const { medianMs, tokens, perSecond } = setup;
  const seconds = plans.reduce((sum, { load }) => sum + values.requests / (Math.min(1, load) * perSecond), 0);
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
  const { peer = '', peerModel = '', threads, slots } = values;
  return startPeer(peer, peerModel, { threads, slots, attention: 'auto' });
}

await runBench(main);
